"""Reference of data/new_news/events.yaml and data/new_news/dev/events.yaml.

WORLDS holds the slots of each news item in its four worlds, the actual one first; a slot's value stands word
for word in the statement of its world. QUESTIONS derives the right option of each of the five questions from
the slots of one world, with the tables of common knowledge below. options(id) puts both together: five lists
of four, options[w] being right in world w.
"""

MONTHS = ["January", "February", "March", "April", "May", "June",
          "July", "August", "September", "October", "November", "December"]
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
SEASONS = ["winter", "spring", "summer", "autumn"]          # north of the equator, from December on
NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
           "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen",
           "nineteen", "twenty"]
ORDINALS = ["the second", "the third", "the fourth", "the fifth"]      # of July 2029, Monday to Thursday

COUNTRY = {"Lima": "Peru", "Cape Town": "South Africa", "Oslo": "Norway", "Tokyo": "Japan",
           "Cairo": "Egypt", "Rome": "Italy", "Berlin": "Germany", "Seoul": "South Korea",
           "Bogota": "Colombia", "Hanoi": "Vietnam", "Vienna": "Austria", "Accra": "Ghana",
           "Madrid": "Spain", "Ottawa": "Canada", "Nairobi": "Kenya", "Delhi": "India"}
CONTINENT = {"Peru": "South America", "South Africa": "Africa", "Norway": "Europe", "Japan": "Asia",
             "Colombia": "South America", "Vietnam": "Asia", "Austria": "Europe", "Ghana": "Africa",
             "Spain": "Europe", "Canada": "North America", "Kenya": "Africa", "India": "Asia"}
SOUTHERN = {"Lima", "Cape Town"}                            # cities well south of the equator
LANGUAGE = {"Egypt": "Arabic", "Italy": "Italian", "Germany": "German", "South Korea": "Korean"}
SPOKEN_IN = {"Swedish": "Sweden", "Greek": "Greece", "Hungarian": "Hungary", "Japanese": "Japan"}
CAPITAL = {"Sweden": "Stockholm", "Greece": "Athens", "Hungary": "Budapest", "Japan": "Tokyo"}
CLASS = {"penguins": "birds", "snakes": "reptiles", "frogs": "amphibians", "lions": "mammals"}

TOOL = {"sweep": "a broom", "paint": "a paintbrush", "dig": "a spade", "chop": "an axe"}
PRODUCER = {"honey": "beekeepers", "wool": "sheep farmers", "tuna": "fishermen", "silver": "miners"}
WORKPLACE = {"nurse": "a hospital", "baker": "a bakery", "pilot": "an aeroplane", "teacher": "a school"}
WORKS_AT = {"theatre": "actors", "hospital": "doctors", "university": "professors", "airport": "pilots"}
NEEDED_FOR = {"sewing": "a needle", "painting": "a brush", "swimming": "a pool", "drumming": "a drum"}
BUILT_FOR = {"library": "readers", "hospital": "patients", "theatre": "audiences",
             "railway station": "travellers"}
WORKED_IN = {"church": "a priest", "prison": "a guard", "school": "a teacher", "mill": "a miller"}
ONE_OF = {"clocks": "a clock", "maps": "a map", "coins": "a coin", "masks": "a mask"}
USE = {"clocks": "telling the time", "maps": "finding the way", "coins": "paying", "masks": "hiding a face"}
MADE_BY = {"bakers": "fresh bread", "barbers": "a haircut", "butchers": "fresh meat",
           "florists": "fresh flowers"}
CRAFTSMAN = {"wood": "a carpenter", "glass": "a glassblower", "clay": "a potter", "cloth": "a tailor"}
OCCASION = {"umbrellas": "a rainy day", "violins": "an orchestra concert", "tents": "a camping trip",
            "hammers": "a roof repair"}
MADE_FROM = {"wheat": "a bakery", "cotton": "a shirt maker", "timber": "a furniture maker",
             "cocoa": "a chocolate maker"}
COLOUR_OF = {"green": "grass", "white": "snow", "red": "blood", "yellow": "a lemon"}
HIDDEN_BY = {"blue": "the open sea", "orange": "a carrot", "black": "a heap of coal",
             "brown": "a bar of chocolate"}
STOPPED = {"wind": "in still air", "sunlight": "after nightfall", "oars": "when arms are tired",
           "batteries": "when nothing is charged"}

# the cases that questions tell, each naming all four candidates
MOWER = {"Monday": "Ann", "Tuesday": "Ben", "Wednesday": "Cora", "Thursday": "Dirk"}
FAN = {"Monday": "Ines", "Tuesday": "Jan", "Wednesday": "Kai", "Thursday": "Lea"}
FRIEND = {"Monday": "Olga", "Tuesday": "Paul", "Wednesday": "Rita", "Thursday": "Sven"}
PACKED = {"honey": "the jar", "wool": "the ball", "tuna": "the tin", "silver": "the bar"}
COLLECTOR = {"coins": "Agnes", "maps": "Bruno", "clocks": "Carla", "masks": "Dimitri"}
TOURIST = {"by boat": "Alma", "by bicycle": "Boris", "on horseback": "Celia", "by train": "David"}
KEEPER = {"penguins": "Amir", "snakes": "Berta", "frogs": "Cyril", "lions": "Doris"}
SHIP = {"wheat": "the Anna", "cotton": "the Bella", "timber": "the Clara", "cocoa": "the Dora"}
DOOR = {"green": "Ada", "white": "Bo", "red": "Cy", "yellow": "Di"}


def month(name, later):
    return MONTHS[(MONTHS.index(name) + later) % 12]


def day(name, later):
    return DAYS[(DAYS.index(name) + later) % 7]


def days_to(first, last):
    return DAYS.index(last) - DAYS.index(first)


def season(name, south=False):
    return SEASONS[((MONTHS.index(name) + 1) % 12 // 3 + 2 * south) % 4]


def number(word):
    return NUMBERS.index(word)


def past_noon(minutes):
    return {20: "twenty past twelve", 30: "half past twelve", 40: "twenty to one", 60: "one o'clock"}[minutes]


def interval(word):
    return {"ten": 10, "fifteen": 15, "twenty": 20, "thirty": 30}[word]


def ahead(words):
    """Hours by which the clocks of Quorby are ahead of those of the mainland."""
    hours, _, side = words.split()
    return number(hours) * {"ahead": 1, "behind": -1}[side]


def o_clock(hour):
    return f"{NUMBERS[(hour - 1) % 12 + 1]} o'clock"


def around_midnight(hours):
    return f"{NUMBERS[hours]} in the morning" if hours > 0 else f"{NUMBERS[12 + hours]} in the evening"


def unchanged_watch(hours):
    """When somebody comes to an appointment by a watch that still shows the mainland's time."""
    count = abs(hours)
    return f"{NUMBERS[count]} hour{'s' * (count > 1)} {'late' if hours > 0 else 'early'}"


def continent(city):
    return CONTINENT[COUNTRY[city]]


WORLDS = {
    "events-tamberlay-festival": [
        {"city": "Oslo", "month": "October"},
        {"city": "Tokyo", "month": "April"},
        {"city": "Lima", "month": "January"},
        {"city": "Cape Town", "month": "July"},
    ],
    "events-pellwick-lawns": [
        {"day": "Wednesday", "work": "sweep the market square"},
        {"day": "Thursday", "work": "dig the flower beds"},
        {"day": "Monday", "work": "paint the old bridge"},
        {"day": "Tuesday", "work": "chop wood for the school"},
    ],
    "events-ilmarro-treaty": [
        {"good": "silver", "month": "September"},
        {"good": "honey", "month": "June"},
        {"good": "wool", "month": "March"},
        {"good": "tuna", "month": "December"},
    ],
    "events-drumlow-council": [
        {"job": "nurse", "month": "October"},
        {"job": "baker", "month": "April"},
        {"job": "pilot", "month": "July"},
        {"job": "teacher", "month": "January"},
    ],
    "events-quarrenby-cup": [
        {"city": "Berlin", "day": "Monday"},
        {"city": "Seoul", "day": "Wednesday"},
        {"city": "Cairo", "day": "Tuesday"},
        {"city": "Rome", "day": "Thursday"},
    ],
    "events-tarrowby-trams": [
        {"place": "university", "minutes": "ten"},
        {"place": "airport", "minutes": "twenty"},
        {"place": "theatre", "minutes": "fifteen"},
        {"place": "hospital", "minutes": "thirty"},
    ],
    "events-lommerton-school": [
        {"skill": "drumming", "day": "Tuesday"},
        {"skill": "sewing", "day": "Thursday"},
        {"skill": "painting", "day": "Monday"},
        {"skill": "swimming", "day": "Wednesday"},
    ],
    "events-ferrivale-prize": [
        {"building": "library", "city": "Accra"},
        {"building": "hospital", "city": "Vienna"},
        {"building": "theatre", "city": "Bogota"},
        {"building": "railway station", "city": "Hanoi"},
    ],
    "events-ossendale-museum": [
        {"building": "school", "things": "clocks"},
        {"building": "mill", "things": "maps"},
        {"building": "church", "things": "coins"},
        {"building": "prison", "things": "masks"},
    ],
    "events-callun-strike": [
        {"workers": "barbers", "day": "Tuesday"},
        {"workers": "butchers", "day": "Thursday"},
        {"workers": "florists", "day": "Monday"},
        {"workers": "bakers", "day": "Wednesday"},
    ],
    "events-dapplin-club": [
        {"material": "wood", "cups": "five"},
        {"material": "glass", "cups": "three"},
        {"material": "clay", "cups": "six"},
        {"material": "cloth", "cups": "four"},
    ],
    "events-gadmoor-visits": [
        {"means": "by train", "month": "April"},
        {"means": "by boat", "month": "October"},
        {"means": "by bicycle", "month": "January"},
        {"means": "on horseback", "month": "July"},
    ],
    "events-brackmere-zoo": [
        {"animals": "snakes", "city": "Madrid"},
        {"animals": "frogs", "city": "Delhi"},
        {"animals": "lions", "city": "Ottawa"},
        {"animals": "penguins", "city": "Nairobi"},
    ],
    "events-radio-plumbury": [
        {"language": "Greek", "hour": "five"},
        {"language": "Hungarian", "hour": "eleven"},
        {"language": "Japanese", "hour": "seven"},
        {"language": "Swedish", "hour": "nine"},
    ],
    "events-tindleby-library": [
        {"things": "hammers", "days": "three"},
        {"things": "umbrellas", "days": "four"},
        {"things": "violins", "days": "two"},
        {"things": "tents", "days": "five"},
    ],
    "events-orbeck-canal": [
        {"cargo": "timber", "day": "Wednesday"},
        {"cargo": "cocoa", "day": "Monday"},
        {"cargo": "wheat", "day": "Tuesday"},
        {"cargo": "cotton", "day": "Friday"},
    ],
    "events-quorby-clocks": [
        {"shift": "one hour ahead"},
        {"shift": "two hours ahead"},
        {"shift": "one hour behind"},
        {"shift": "two hours behind"},
    ],
    "events-mollin-day": [
        {"day": "Monday", "month": "October"},
        {"day": "Wednesday", "month": "January"},
        {"day": "Thursday", "month": "April"},
        {"day": "Tuesday", "month": "July"},
    ],
    "events-marrowdene-doors": [
        {"door": "red", "gate": "blue"},
        {"door": "yellow", "gate": "brown"},
        {"door": "green", "gate": "orange"},
        {"door": "white", "gate": "black"},
    ],
    "events-lake-umbry": [
        {"power": "sunlight", "day": "Tuesday"},
        {"power": "oars", "day": "Thursday"},
        {"power": "batteries", "day": "Monday"},
        {"power": "wind", "day": "Wednesday"},
    ],
}

QUESTIONS = {       # recall, application, reversal, background, two steps
    "events-tamberlay-festival": [
        lambda w: w["city"], lambda w: month(w["month"], -1), lambda w: w["month"],
        lambda w: continent(w["city"]), lambda w: season(w["month"], w["city"] in SOUTHERN)],
    "events-pellwick-lawns": [
        lambda w: w["work"], lambda w: MOWER[w["day"]], lambda w: w["day"],
        lambda w: TOOL[w["work"].split()[0]], lambda w: day(w["day"], 3)],
    "events-ilmarro-treaty": [
        lambda w: w["good"], lambda w: PACKED[w["good"]], lambda w: w["month"],
        lambda w: PRODUCER[w["good"]], lambda w: season(month(w["month"], -1))],
    "events-drumlow-council": [
        lambda w: w["job"], lambda w: month(w["month"], -1), lambda w: w["month"],
        lambda w: WORKPLACE[w["job"]], lambda w: month(w["month"], 2)],
    "events-quarrenby-cup": [
        lambda w: w["city"], lambda w: FAN[w["day"]], lambda w: w["day"],
        lambda w: LANGUAGE[COUNTRY[w["city"]]],
        lambda w: NUMBERS[days_to(day(w["day"], 1), "Sunday")]],
    "events-tarrowby-trams": [
        lambda w: f"{w['minutes']} minutes", lambda w: NUMBERS[60 // interval(w["minutes"])],
        lambda w: f"the {w['place']}", lambda w: WORKS_AT[w["place"]],
        lambda w: past_noon(2 * interval(w["minutes"]))],
    "events-lommerton-school": [
        lambda w: w["skill"], lambda w: NUMBERS[days_to(w["day"], "Friday")], lambda w: w["day"],
        lambda w: NEEDED_FOR[w["skill"]], lambda w: day(w["day"], 2)],
    "events-ferrivale-prize": [
        lambda w: w["building"], lambda w: COUNTRY[w["city"]], lambda w: w["city"],
        lambda w: BUILT_FOR[w["building"]], lambda w: continent(w["city"])],
    "events-ossendale-museum": [
        lambda w: w["building"], lambda w: COLLECTOR[w["things"]], lambda w: w["things"],
        lambda w: USE[w["things"]], lambda w: f"{WORKED_IN[w['building']]} with {ONE_OF[w['things']]}"],
    "events-callun-strike": [
        lambda w: w["workers"], lambda w: NUMBERS[days_to(w["day"], "Sunday")], lambda w: w["day"],
        lambda w: MADE_BY[w["workers"]], lambda w: ORDINALS[DAYS.index(w["day"])]],
    "events-dapplin-club": [
        lambda w: w["material"], lambda w: NUMBERS[2 * number(w["cups"])],
        lambda w: NUMBERS[60 // number(w["cups"])],
        lambda w: CRAFTSMAN[w["material"]], lambda w: NUMBERS[2 * number(w["cups"]) + 1]],
    "events-gadmoor-visits": [
        lambda w: w["means"], lambda w: TOURIST[w["means"]], lambda w: w["month"],
        lambda w: season(w["month"]), lambda w: month(w["month"], 2)],
    "events-brackmere-zoo": [
        lambda w: w["animals"], lambda w: KEEPER[w["animals"]], lambda w: w["city"],
        lambda w: CLASS[w["animals"]], lambda w: continent(w["city"])],
    "events-radio-plumbury": [
        lambda w: w["language"], lambda w: NUMBERS[number(w["hour"]) + 1], lambda w: w["hour"],
        lambda w: SPOKEN_IN[w["language"]], lambda w: CAPITAL[SPOKEN_IN[w["language"]]]],
    "events-tindleby-library": [
        lambda w: w["things"], lambda w: day("Monday", number(w["days"])),
        lambda w: day("Saturday", -number(w["days"])),
        lambda w: OCCASION[w["things"]], lambda w: day("Monday", number(w["days"]) - 1)],
    "events-orbeck-canal": [
        lambda w: w["cargo"], lambda w: SHIP[w["cargo"]], lambda w: w["day"],
        lambda w: MADE_FROM[w["cargo"]], lambda w: day(w["day"], 1 + 2)],
    "events-quorby-clocks": [
        lambda w: w["shift"], lambda w: o_clock(12 + ahead(w["shift"])),
        lambda w: o_clock(6 - ahead(w["shift"])),
        lambda w: around_midnight(ahead(w["shift"])), lambda w: unchanged_watch(ahead(w["shift"]))],
    "events-mollin-day": [
        lambda w: w["month"], lambda w: day(w["day"], 1), lambda w: w["day"],
        lambda w: season(w["month"]), lambda w: month(w["month"], -2)],
    "events-marrowdene-doors": [
        lambda w: w["door"], lambda w: DOOR[w["door"]], lambda w: w["gate"],
        lambda w: COLOUR_OF[w["door"]], lambda w: HIDDEN_BY[w["gate"]]],
    "events-lake-umbry": [
        lambda w: w["power"], lambda w: FRIEND[w["day"]], lambda w: w["day"],
        lambda w: STOPPED[w["power"]], lambda w: day(w["day"], -3)],
}


def options(id):
    """Five lists of four: the right options of the five questions in each world."""
    return [[derive(slots) for slots in WORLDS[id]] for derive in QUESTIONS[id]]
