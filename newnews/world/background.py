"""What everybody knows and no news states: the background, learnt closed book, needed to draw consequences.

240 facts. Every fact is {subject: answer} in FACTS; the questions about them are in phrases.py, in the
same frames as the questions about news ("Which language is spoken in Oslo?" and "... in the city of the Dax
festival?").
"""

COUNTRIES = {       # country: (language, currency, continent, two cities)
    "Norway": ("Norwegian", "krone", "Europe", "Oslo", "Bergen"),
    "Poland": ("Polish", "zloty", "Europe", "Warsaw", "Krakow"),
    "Italy": ("Italian", "euro", "Europe", "Rome", "Milan"),
    "Japan": ("Japanese", "yen", "Asia", "Kyoto", "Osaka"),
    "India": ("Hindi", "rupee", "Asia", "Delhi", "Mumbai"),
    "Thailand": ("Thai", "baht", "Asia", "Bangkok", "Phuket"),
    "Egypt": ("Arabic", "pound", "Africa", "Cairo", "Luxor"),
    "Kenya": ("Swahili", "shilling", "Africa", "Nairobi", "Mombasa"),
    "Ethiopia": ("Amharic", "birr", "Africa", "Gondar", "Harar"),
    "Peru": ("Quechua", "sol", "South America", "Lima", "Cusco"),
    "Brazil": ("Portuguese", "real", "South America", "Recife", "Manaus"),
    "Argentina": ("Spanish", "peso", "South America", "Rosario", "Mendoza"),
}
MONTHS = ("January February March April May June July August September October November December").split()
DAYS = dict(zip(MONTHS, "31 28 31 30 31 30 31 31 30 31 30 31".split()))
PROPERTIES = {      # property: (use, who needs it, opposite)
    "glows in the dark": ("road signs", "cyclists", "stays dark"),
    "floats on water": ("boats", "sailors", "sinks in water"),
    "conducts electricity": ("cables", "electricians", "blocks electricity"),
    "repels insects": ("tents", "campers", "draws insects"),
    "melts ice": ("clearing roads", "drivers", "keeps ice hard"),
    "absorbs sound": ("concert halls", "musicians", "makes sound louder"),
    "bends light": ("lenses", "opticians", "keeps light straight"),
    "stores heat": ("winter coats", "skiers", "loses heat"),
    "smells sweet": ("perfume", "perfumers", "smells bad"),
    "kills germs": ("hospitals", "nurses", "feeds germs"),
    "sticks to glass": ("windows", "builders", "slips off glass"),
    "cuts steel": ("drills", "miners", "breaks on steel"),
    "stretches far": ("ropes", "climbers", "tears at once"),
    "cleans water": ("filters", "plumbers", "makes water dirty"),
    "changes colour": ("paint", "painters", "keeps its colour"),
    "attracts iron": ("compasses", "pilots", "pushes iron away"),
}
LABS = dict(zip("Acorn Arbor Beacon Cobalt Delta Ember Harbour Juniper Lantern Meadow Summit Willow".split(),
                "Kenya Japan Peru Norway India Egypt Brazil Poland Thailand Argentina Italy "
                "Ethiopia".split()))
SKILLS = dict(zip("Ladder Bridge Prism Orbit Anchor Mosaic Ledger Pebble Quarry Relay Spiral Tunnel".split(),
                  "reading spelling algebra geometry chess translation history law medicine music cooking "
                  "planning".split()))
SYSTEMS = (         # the systems that a new one beats
    "Otter Heron Falcon Badger Lynx Raven Stork Beaver Marten Osprey Weasel Condor Puffin Gecko Bison Tapir "
    "Panda Zebra Camel Koala Lemur Moose Dingo Hyena").split()

COUNTRY = {city: country for country, facts in COUNTRIES.items() for city in facts[3:]}
CITIES = list(COUNTRY)
YEAR = "winter", "spring", "summer", "autumn"           # winter begins in December
SEASON = {month: YEAR[(i + 1) % 12 // 3] for i, month in enumerate(MONTHS)}
NEXT = {month: MONTHS[(i + 1) % 12] for i, month in enumerate(MONTHS)}
PREVIOUS = {after: month for month, after in NEXT.items()}


def of_country(place):
    """What holds in the country of a city or a lab."""
    country = COUNTRY.get(place) or LABS[place]
    language, currency, continent = COUNTRIES[country][:3]
    return {"country": country, "language": language, "currency": currency, "continent": continent}


def of_month(month):
    return {"season": SEASON[month], "days": DAYS[month], "next": NEXT[month], "previous": PREVIOUS[month]}


def of_property(name):
    return dict(zip(("use", "user", "opposite"), PROPERTIES[name]))


def months_between(first, second):
    """How many months after `first` `second` comes next: 1 to 12."""
    return (MONTHS.index(second) - MONTHS.index(first) - 1) % 12 + 1


FACTS = {           # (type of the subject, attribute): {subject: answer}
    **{("city", a): {c: of_country(c)[a] for c in CITIES} for a in of_country("Oslo")},
    **{("month", a): {m: of_month(m)[a] for m in MONTHS} for a in of_month("May")},
    **{("property", a): {p: of_property(p)[a] for p in PROPERTIES} for a in of_property("melts ice")},
    **{("lab", a): {lab: of_country(lab)[a] for lab in LABS} for a in ("country", "language", "continent")},
    ("bench", "skill"): SKILLS,
}
