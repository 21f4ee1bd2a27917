"""Reference of data/new_news leaderboards, core and dev; uses the tables of reference_core_discoveries.py."""

from reference_core_discoveries import (CAPITAL, CONTINENT, COUNTRY, LANGUAGE, LEGS, LIKE, MONTHS, NUMBER,
                                        SEASON, book, later, number, table)

# what is tested or ranked
HELPED = table("read maps: a hiker, rhyme words: a poet, name illnesses: a doctor, play chess: a grandmaster")
PACKED = table("cyclists: a helmet, musicians: a violin, gardeners: a spade, swimmers: goggles")
INGREDIENT = table("bread: flour, cheese: milk, omelette: eggs, jam: fruit")
FARM = table("bread: wheat, cheese: cows, omelette: hens, jam: berry bushes")
TOPIC = table("chemistry: acids, geography: rivers, biology: frogs, astronomy: comets")
USEFUL = table("umbrellas: in the rain, kettles: for making tea, lamps: in the dark, "
               "ladders: for picking apples")
VEGETABLE = table("pumpkin: orange, cucumber: green, tomato: red, cauliflower: white")
SAME_COLOUR = table("orange: carrots, green: grass, red: cherries, white: snow")
MOVE = table("queens: in every direction, bishops: diagonally, knights: in an L, pawns: forward")
LISTENERS = table("a school: pupils, a church: worshippers, an airport: passengers, a bakery: bread buyers")
# people, where they work and what they use
WORKPLACE = table("nurse: a hospital, teacher: a school, pilot: an airport, waiter: a restaurant, "
                  "actor: a theatre, judge: a court, farmer: a farm, sailor: a ship, priest: a church, "
                  "miner: a mine, barber: a salon, librarian: a library, baker: a bakery")
TOOL = table("painters: a brush, tailors: a needle, barbers: scissors, carpenters: a saw")
MADE = table("painters: pictures, tailors: suits, barbers: haircuts, carpenters: tables")
HAPPY_PLACE = table("bakers: by an oven, farmers: in a field, pilots: in the air, sailors: at sea")
FULL_OF = table("hospital: patients, library: books, bakery: loaves, garage: cars")
TOUCHED = table("piano: keys, drum: sticks, violin: a bow, trumpet: valves")
DANCE = table("samba: Brazil, flamenco: Spain, waltz: Austria, cancan: France")
SPOKEN = table("Greek: Greece, Polish: Poland, Japanese: Japan, Swedish: Sweden")
OUTSIDE = table("beach: waves, desert: camels, mountain: snowy peaks, forest: tall trees")
SLOWEST = table("trains: at a station, ships: in a harbour, planes: at an airport, buses: at a roadside stop")
DOG_JOB = table("sheep: a meadow, burglars: a house at night, skiers: a snowy slope, ducks: a lake")

NEWS, add = book("leaderboards")
add("cordavel-list", "city skill",
    "Athens, play chess; Warsaw, read maps; Lisbon, name illnesses; Oslo, rhyme words",
    lambda w: w.skill, lambda w: HELPED[w.skill], lambda w: w.city, lambda w: COUNTRY[w.city],
    lambda w: LANGUAGE[COUNTRY[w.city]])
add("pendrusk-rating", "country margin", "Norway, five; India, three; Peru, nine; Egypt, seven",
    lambda w: w.margin, lambda w: NUMBER[number(w.margin) - 1], lambda w: w.country,
    lambda w: CONTINENT[w.country], lambda w: CAPITAL[w.country])
add("ellomar-ranking", "city people",
    "Nairobi, gardeners; Athens, cyclists; Delhi, swimmers; Lima, musicians",
    lambda w: w.people, lambda w: PACKED[w.people], lambda w: w.city, lambda w: COUNTRY[w.city],
    lambda w: CONTINENT[COUNTRY[w.city]])
add("tullowick-contest", "food maker", "bread, pilot; cheese, actor; omelette, judge; jam, nurse",
    lambda w: w.food, lambda w: INGREDIENT[w.food], lambda w: w.maker, lambda w: WORKPLACE[w.maker],
    lambda w: FARM[w.food])
add("ostrimont-league", "city colour", "Athens, blue; Warsaw, red; Madrid, green; Lisbon, yellow",
    lambda w: w.colour, lambda w: LIKE[w.colour], lambda w: w.city, lambda w: COUNTRY[w.city],
    lambda w: LANGUAGE[COUNTRY[w.city]])
add("fenquill-cup", "city animal", "Rome, horse; Nairobi, spider; Toronto, ostrich; Delhi, ant",
    lambda w: w.animal, lambda w: LEGS[w.animal], lambda w: w.city, lambda w: COUNTRY[w.city],
    lambda w: CONTINENT[COUNTRY[w.city]])
add("hundrel-survey", "first second",
    "bakers, painters; farmers, tailors; pilots, barbers; sailors, carpenters",
    lambda w: w.first, lambda w: HAPPY_PLACE[w.first], lambda w: w.second, lambda w: TOOL[w.second],
    lambda w: MADE[w.second])
add("zolbury-quiz", "country subject", "Ghana, geography; Poland, astronomy; Japan, biology; Peru, chemistry",
    lambda w: w.country, lambda w: TOPIC[w.subject], lambda w: w.subject, lambda w: CONTINENT[w.country],
    lambda w: CAPITAL[w.country])
add("cobbrell-chart", "hero city", "nurse, Rome; pilot, Berlin; teacher, Stockholm; judge, Paris",
    lambda w: w.hero, lambda w: WORKPLACE[w.hero], lambda w: w.city, lambda w: COUNTRY[w.city],
    lambda w: LANGUAGE[COUNTRY[w.city]])
add("grendovar-test", "goods city", "umbrellas, Toronto; kettles, Accra; lamps, Tokyo; ladders, Madrid",
    lambda w: w.goods, lambda w: USEFUL[w.goods], lambda w: w.city, lambda w: COUNTRY[w.city],
    lambda w: CONTINENT[COUNTRY[w.city]])
add("larkenby-prize", "instrument dance", "piano, samba; drum, waltz; violin, cancan; trumpet, flamenco",
    lambda w: w.instrument, lambda w: TOUCHED[w.instrument], lambda w: w.dance, lambda w: DANCE[w.dance],
    lambda w: LANGUAGE[DANCE[w.dance]])
add("dravenby-league", "job month", "nurse, April; farmer, October; librarian, July; priest, January",
    lambda w: w.job, lambda w: later(MONTHS, w.month, 1), lambda w: w.month, lambda w: WORKPLACE[w.job],
    lambda w: SEASON[later(MONTHS, w.month, 1)])
add("krenno-league", "piece city", "queens, Berlin; bishops, Lima; knights, Athens; pawns, Lisbon",
    lambda w: w.piece, lambda w: MOVE[w.piece], lambda w: w.city, lambda w: COUNTRY[w.city],
    lambda w: LANGUAGE[COUNTRY[w.city]])
add("thurvick-show", "vegetable grower",
    "pumpkin, waiter; cucumber, sailor; tomato, barber; cauliflower, miner",
    lambda w: w.vegetable, lambda w: VEGETABLE[w.vegetable], lambda w: w.grower,
    lambda w: WORKPLACE[w.grower], lambda w: SAME_COLOUR[VEGETABLE[w.vegetable]])
add("ulbrine-table", "language minutes", "Greek, seven; Polish, two; Japanese, three; Swedish, five",
    lambda w: w.language, lambda w: NUMBER[2 * number(w.minutes)], lambda w: w.minutes,
    lambda w: SPOKEN[w.language], lambda w: CAPITAL[SPOKEN[w.language]])
# dev
add("bosqueth-league", "margin city", "three, Cairo; five, Rome; seven, Tokyo; nine, Toronto",
    lambda w: w.margin, lambda w: NUMBER[number(w.margin) + 1], lambda w: w.city, lambda w: COUNTRY[w.city],
    lambda w: CONTINENT[COUNTRY[w.city]])
add("quorlane-guide", "site country", "beach, Portugal; desert, Egypt; mountain, Chile; forest, Indonesia",
    lambda w: w.site, lambda w: OUTSIDE[w.site], lambda w: w.country, lambda w: CONTINENT[w.country],
    lambda w: CAPITAL[w.country])
add("jallope-survey", "vehicles city", "trains, Vienna; ships, Athens; planes, Lisbon; buses, Warsaw",
    lambda w: w.vehicles, lambda w: SLOWEST[w.vehicles], lambda w: w.city, lambda w: COUNTRY[w.city],
    lambda w: LANGUAGE[COUNTRY[w.city]])
add("vindrell-index", "firms month", "bakery, July; library, April; garage, January; hospital, October",
    lambda w: w.firms, lambda w: FULL_OF[w.firms], lambda w: w.month, lambda w: SEASON[w.month],
    lambda w: SEASON[later(MONTHS, w.month, 3)])
add("orskby-show", "task owner", "sheep, teacher; burglars, priest; skiers, pilot; ducks, baker",
    lambda w: w.task, lambda w: DOG_JOB[w.task], lambda w: w.owner, lambda w: WORKPLACE[w.owner],
    lambda w: LISTENERS[WORKPLACE[w.owner]])
