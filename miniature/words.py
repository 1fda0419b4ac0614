"""The words that the miniature knows, and the facts about them. Written for this project.

Every word is a single GPT-2 token after a space, and so is every answer (a plural, a past tense, a category, an
opposite). Recalling a fact therefore maps one token to another, which a model of this size can learn.
"""

CATEGORIES = {
    "animal": """
        dog cat horse cow pig sheep goat lion tiger bear wolf fox rabbit mouse rat deer elephant monkey
        camel donkey whale dolphin snake frog turtle lizard bat seal squirrel lamb bull gorilla
    """.split(),
    "bird": "eagle hawk owl duck goose crow raven chicken hen turkey pigeon dove crane".split(),
    "fish": "salmon trout tuna cod shark carp bass".split(),
    "insect": "bee ant fly butterfly mosquito beetle moth cricket".split(),
    "fruit": """
        apple banana orange grape lemon lime peach pear plum cherry strawberry mango pineapple coconut
        fig raspberry tomato avocado
    """.split(),
    "vegetable": """
        carrot potato onion cabbage bean pepper spinach corn lettuce broccoli garlic pumpkin kale beet
    """.split(),
    "food": """
        bread cheese butter soup rice pasta pizza cake pie sausage egg sandwich honey sugar salt bacon
        steak cookie salad ham sauce
    """.split(),
    "drink": "water milk tea coffee juice wine beer soda cocoa whiskey vodka cider rum".split(),
    "tool": "hammer saw knife drill shovel wrench axe rake needle scissors".split(),
    "weapon": "sword gun rifle bow spear dagger pistol cannon bomb missile arrow".split(),
    "vehicle": """
        car bus truck train bicycle motorcycle boat ship plane tram taxi van wagon helicopter tractor
        ferry bike jet submarine
    """.split(),
    "furniture": "chair table bed desk sofa couch shelf bench cabinet drawer stool wardrobe".split(),
    "clothing": "shirt coat hat dress skirt shoe boot sock glove scarf jacket sweater belt jeans pants tie cap".split(),
    "instrument": "piano guitar violin drum trumpet horn bell".split(),
    "color": "red blue green yellow black white brown purple pink gray gold silver".split(),
    "metal": "iron copper steel tin lead zinc aluminum nickel mercury titanium bronze brass".split(),
    "sport": """
        football tennis soccer hockey golf baseball basketball boxing rugby skiing swimming wrestling
        cycling volleyball
    """.split(),
    "profession": """
        teacher doctor nurse farmer lawyer baker pilot cook soldier writer singer painter actor driver
        judge engineer dentist sailor tailor butcher scientist chef journalist architect priest
    """.split(),
    "building": """
        house church school hospital hotel tower castle palace barn temple theater museum library
        factory prison cottage cathedral
    """.split(),
    "container": "box bag bottle cup jar basket bucket bowl barrel pot can crate mug jug".split(),
    "country": """
        France Germany Italy Spain China Japan India Canada Brazil Mexico Egypt Russia Norway Sweden
        Poland Greece Turkey Peru Chile Kenya
    """.split(),
    "city": """
        London Paris Berlin Rome Madrid Moscow Tokyo Boston Chicago Vienna Dublin Athens Oslo Cairo Lima
        Prague Seattle Toronto
    """.split(),
    "language": """
        English French German Spanish Italian Russian Chinese Japanese Arabic Latin Greek Polish Dutch
        Hindi Portuguese Swedish
    """.split(),
    "month": "January February March April June July August September October November December".split(),
    "planet": "Mars Venus Jupiter Saturn Mercury Neptune Earth Pluto".split(),
    "shape": "circle square triangle rectangle cube sphere pyramid cylinder".split(),
    "disease": "cancer flu malaria measles polio asthma tuberculosis diabetes".split(),
    "fabric": "cotton wool silk linen leather denim velvet nylon".split(),
}

# Countable nouns, and their irregular plurals.
NOUNS = """
    dog cat horse cow pig sheep goat lion tiger bear wolf rabbit mouse rat deer elephant monkey whale dolphin
    snake frog turtle bat seal bull duck chicken bee ant fly butterfly beetle apple banana orange grape
    strawberry tomato carrot potato onion bean pepper knife drill axe needle sword gun rifle bow spear pistol
    cannon bomb missile arrow car bus truck train bicycle motorcycle boat ship plane taxi van helicopter bike
    jet submarine chair table bed desk shelf bench cabinet shirt coat hat dress skirt shoe boot sock glove
    jacket belt tie cap guitar drum horn bell circle square triangle cube sphere cylinder teacher doctor nurse
    farmer lawyer pilot cook soldier writer singer actor driver judge engineer sailor scientist chef
    journalist architect priest house church school hospital hotel tower castle temple theater museum library
    factory prison box bag bottle cup jar basket bucket bowl barrel pot can crate man woman child foot tooth
    leaf wife thief city country baby lady party story family body key day boy toy way valley book pen letter
    paper door window wall roof floor room garden field road street bridge river lake mountain hill island
    forest beach stone rock star cloud flower tree plant seed root branch farm hand arm leg finger eye ear
    nose mouth head face neck knee shoulder toe bone heart brain lung king queen prince knight friend enemy
    guest student player worker customer neighbor stranger picture painting photo song film movie play poem
    novel page word sentence question answer problem idea plan rule price coin ticket bill gift prize game
    ball doll rope wheel engine machine computer phone camera radio clock watch lamp candle mirror brush fork
    plate glass dish class match witch bush wish kiss tax hero echo nail screw pipe wire chain lock gate fence
    tent flag map sign card stamp bank shop market store office kitchen bathroom bedroom village town nation
    state storm wind flame fire shadow light sound noise voice dream lesson test exam grade course statue
    cousin sister brother mother father daughter son
""".split()

IRREGULAR_PLURALS = dict(pair.split(":") for pair in """
    man:men woman:women child:children foot:feet tooth:teeth mouse:mice leaf:leaves knife:knives wife:wives
    wolf:wolves shelf:shelves thief:thieves sheep:sheep deer:deer potato:potatoes tomato:tomatoes hero:heroes
    echo:echoes
""".split())

# Verbs, and the past tense and participle of irregular ones.
VERBS = """
    walk talk play work jump cook clean wash watch look call help open close start stop visit paint plant pull
    push pick kick touch carry cry try study marry hurry worry copy move live love like hate use dance smile
    race bake taste hope share save place change chase cause dare force guide judge name note raise scare
    serve shake stare store trade vote wave plan drop beg grab hug nod rob rub slip step stir tap wrap ask
    answer add allow appear arrive attack attend avoid belong boil borrow breathe burn check claim climb
    collect command compare complain connect consider contain count cover crash create cross damage deliver
    demand deny depend describe deserve destroy develop disappear discover discuss divide doubt dream earn
    employ end enjoy enter escape examine exist expect explain explore express face fail fill film fix float
    follow fold gather greet guard guess hammer hand happen hunt imagine improve include increase inform
    insist intend invent invite join kill kiss knock land last laugh learn lift listen lock manage march mark
    match measure mention mix need notice offer order own pack park pass pause perform please point pour
    practice pray prefer prepare present press pretend prevent print produce promise protect prove provide
    punish question reach realize receive recognize record reduce refuse regret relax remain remember remind
    remove repair repeat replace reply report rescue rest return reward ruin rule sail search seem sell shout
    sign sound spoil stay steer suggest supply support suppose surprise surround suspect tease test thank tie
    train travel treat trust turn type unite vanish wait wander want warn waste water weigh whisper wish
    wonder yell go come see take give get make know think say tell find leave feel keep bring buy begin break
    build catch choose cut draw drink drive eat fall feed fight fly forget freeze grow hang hear hide hit hold
    hurt lead lend let lose mean meet pay put read ride ring rise run seek send set shine shoot show shut sing
    sink sit sleep slide speak spend spin spread stand steal stick strike swear sweep swing teach tear throw
    understand wake wear win write bite blow bend dig lean spit spring
""".split()

IRREGULAR_VERBS = {base: (past, participle) for base, past, participle in (verb.split(":") for verb in """
    shake:shook:shaken sell:sold:sold go:went:gone come:came:come see:saw:seen take:took:taken give:gave:given
    get:got:got make:made:made know:knew:known think:thought:thought say:said:said tell:told:told
    find:found:found leave:left:left feel:felt:felt keep:kept:kept bring:brought:brought buy:bought:bought
    begin:began:begun break:broke:broken build:built:built catch:caught:caught choose:chose:chosen cut:cut:cut
    draw:drew:drawn drink:drank:drunk drive:drove:driven eat:ate:eaten fall:fell:fallen feed:fed:fed
    fight:fought:fought fly:flew:flown forget:forgot:forgotten freeze:froze:frozen grow:grew:grown
    hang:hung:hung hear:heard:heard hide:hid:hidden hit:hit:hit hold:held:held hurt:hurt:hurt lead:led:led
    lend:lent:lent let:let:let lose:lost:lost mean:meant:meant meet:met:met pay:paid:paid put:put:put
    read:read:read ride:rode:ridden ring:rang:rung rise:rose:risen run:ran:run seek:sought:sought
    send:sent:sent set:set:set shine:shone:shone shoot:shot:shot show:showed:shown shut:shut:shut
    sing:sang:sung sink:sank:sunk sit:sat:sat sleep:slept:slept slide:slid:slid speak:spoke:spoken
    spend:spent:spent spin:spun:spun spread:spread:spread stand:stood:stood steal:stole:stolen
    stick:stuck:stuck strike:struck:struck swear:swore:sworn sweep:swept:swept swing:swung:swung
    teach:taught:taught tear:tore:torn throw:threw:thrown understand:understood:understood wake:woke:woken
    wear:wore:worn win:won:won write:wrote:written bite:bit:bitten blow:blew:blown bend:bent:bent dig:dug:dug
    spit:spat:spat spring:sprang:sprung
""".split())}

DOUBLING_VERBS = """
    stop plan drop beg grab hug nod rob rub slip step stir tap wrap prefer regret
""".split()

OPPOSITES = [tuple(pair.split(":")) for pair in """
    hot:cold big:small tall:short fast:slow old:new good:bad happy:sad rich:poor strong:weak hard:soft
    light:dark wet:dry clean:dirty early:late full:empty high:low near:far open:closed loud:quiet
    easy:difficult right:wrong true:false thick:thin wide:narrow deep:shallow sharp:dull rough:smooth
    sweet:bitter safe:dangerous cheap:expensive brave:cowardly kind:cruel polite:rude simple:complex
    tight:loose alive:dead awake:asleep public:private guilty:innocent male:female positive:negative
    major:minor maximum:minimum visible:hidden real:fake rare:common legal:illegal possible:impossible
    honest:dishonest patient:impatient lucky:unlucky healthy:sick wise:foolish calm:nervous generous:selfish
    beautiful:ugly raw:cooked wild:tame fresh:stale straight:crooked vertical:horizontal permanent:temporary
    local:global domestic:foreign urban:rural formal:casual active:passive absent:present senior:junior
    inner:outer upper:lower front:back top:bottom inside:outside above:below before:after always:never
    often:seldom day:night morning:evening summer:winter north:south east:west war:peace friend:enemy
    beginning:end entrance:exit victory:defeat success:failure profit:loss truth:lie strength:weakness
    heaven:hell import:export buy:sell give:take win:lose push:pull come:go arrive:depart enter:leave
    start:stop laugh:cry remember:forget accept:reject attack:defend build:destroy increase:decrease rise:fall
    float:sink lend:borrow add:subtract multiply:divide catch:throw create:ruin agree:disagree allow:forbid
    appear:vanish expand:shrink freeze:melt sit:stand speak:listen teach:learn succeed:fail fill:drain
    connect:separate praise:blame reward:punish hide:reveal whisper:shout join:quit lock:unlock
    include:exclude encourage:discourage wake:sleep first:last same:different everything:nothing
    everywhere:nowhere together:apart forward:backward quickly:slowly loudly:quietly flexible:rigid
    superior:inferior internal:external natural:artificial voluntary:forced harmless:harmful useful:useless
    careful:careless familiar:strange friendly:hostile interesting:boring mild:severe noisy:silent
    relaxed:tense usual:unusual likely:unlikely stable:unstable equal:unequal arrogant:modest cause:effect
    problem:solution hope:despair joy:sorrow poverty:wealth knowledge:ignorance freedom:slavery
    leader:follower sunrise:sunset dawn:dusk arrival:departure ceiling:floor land:sea amateur:professional
    majority:minority advantage:disadvantage offense:defense supply:demand past:future famous:obscure
    more:less many:few life:death solid:liquid complete:partial
""".split()]

# Words that are often misspelled.
SPELLINGS = """
    receive believe friend their piece field weird ceiling achieve relief address across afford aggressive
    apparent appear argument beautiful beginning bicycle business calendar category ceremony certain character
    chocolate colleague coming committee completely computer conscience conscious correct country courage
    cousin decision definitely describe desperate develop different difficult disappear disappoint disaster
    discipline doctor dollar embarrass enough entrance environment equipment especially excellent exercise
    existence experience experiment explanation familiar favorite February finally foreign forward forty
    fourth garden general government grammar grateful guarantee guard guess happened harass height history
    hospital humor hundred hungry immediately important independent intelligence interest interrupt island
    jealous journey judge kitchen knowledge laboratory language laugh leisure library license lightning
    literature lonely machine maintenance marriage mathematics medicine memory message million minute mirror
    mischief morning mountain muscle music mystery natural necessary neighbor nervous niece ninth noticeable
    occasion occur office operation opinion opportunity opposite ordinary original parallel parliament
    particular people perfect performance perhaps permanent personal physical picture planet pleasant poison
    possess possible practice present president principal privilege probably problem professor promise
    pronunciation quarter question quiet rabbit realize really reason recent recommend remember repeat
    restaurant rhythm ridiculous sandwich scissors secret secretary sentence separate shoulder signal similar
    sincerely soldier special stomach straight strange strength stretch student subject succeed success sudden
    surprise surround temperature terrible theater thorough thought thousand through together tomorrow tongue
    tragedy travel trouble truly uncle until usually vacation valuable vegetable village visitor voice volume
    weather welcome whether window winter woman wonderful writing yellow yesterday young pencil butter letter
    dinner summer rubber ladder hammer manner tunnel button cotton bottom follow pillow arrow narrow sorry
    carry hurry worry silly puppy happy
""".split()

# Definitions: a word, the kind of thing it is, and what distinguishes it.
DEFINITIONS = [tuple(line.strip().split("|")) for line in """
    knife|tool|for cutting
    hammer|tool|for driving nails
    saw|tool|for cutting wood
    shovel|tool|for digging
    drill|tool|for making holes
    rake|tool|for gathering leaves
    needle|tool|for sewing
    axe|tool|for chopping trees
    wrench|tool|for turning bolts
    brush|tool|for painting
    pen|tool|for writing
    ladder|frame|for climbing
    comb|tool|for the hair
    spoon|tool|for eating soup
    fork|tool|for eating meat
    baker|person|who bakes bread
    teacher|person|who teaches children
    farmer|person|who grows food
    pilot|person|who flies planes
    singer|person|who sings songs
    writer|person|who writes books
    painter|person|who paints pictures
    driver|person|who drives cars
    dentist|person|who repairs teeth
    doctor|person|who treats sick people
    nurse|person|who cares for patients
    tailor|person|who makes clothes
    butcher|person|who sells meat
    sailor|person|who works on a ship
    soldier|person|who fights in wars
    judge|person|who decides in court
    thief|person|who steals things
    miner|person|who digs for coal
    guard|person|who protects a place
    student|person|who studies at school
    hunter|person|who hunts animals
    dancer|person|who dances
    cook|person|who prepares meals
    actor|person|who plays in movies
    tourist|person|who travels for fun
    orphan|child|without parents
    widow|woman|whose husband is dead
    uncle|man|who is the brother of a parent
    lamb|animal|that is a young sheep
    kitten|animal|that is a young cat
    puppy|animal|that is a young dog
    calf|animal|that is a young cow
    horse|animal|that people ride
    cow|animal|that gives milk
    sheep|animal|that gives wool
    camel|animal|that lives in the desert
    whale|animal|that lives in the sea
    bee|insect|that makes honey
    mosquito|insect|that drinks blood
    butterfly|insect|with colorful wings
    spider|creature|with eight legs
    owl|bird|that hunts at night
    duck|bird|that swims on ponds
    hen|bird|that lays eggs
    kitchen|room|for cooking
    bedroom|room|for sleeping
    bathroom|room|for washing
    office|room|for working
    library|building|full of books
    school|building|where children learn
    hospital|building|where sick people stay
    church|building|where people pray
    prison|building|where criminals are kept
    hotel|building|where guests sleep
    barn|building|where farmers keep hay
    theater|building|where plays are shown
    museum|building|where old things are shown
    factory|building|where goods are made
    castle|building|where a king lives
    bakery|shop|that sells bread
    garage|building|where cars are kept
    island|land|with water all around
    desert|land|with almost no rain
    forest|land|with many trees
    river|stream|that flows to the sea
    lake|water|with land all around
    mountain|hill|that is very high
    volcano|mountain|that throws out fire
    kettle|pot|for boiling water
    bottle|container|for drinks
    basket|container|for carrying fruit
    wallet|container|for money
    bucket|container|for carrying water
    barrel|container|for storing wine
    clock|machine|that shows the time
    camera|machine|that takes pictures
    computer|machine|that works with data
    telephone|machine|for talking over a distance
    radio|machine|that plays music and news
    refrigerator|machine|that keeps food cold
    engine|machine|that makes a car move
    umbrella|thing|that keeps off rain
    blanket|cloth|that keeps you warm
    towel|cloth|for drying the body
    flag|cloth|that stands for a country
    curtain|cloth|that covers a window
    carpet|cloth|that covers the floor
    hat|cloth|for the head
    glove|cloth|for the hand
    shoe|thing|for the foot
    ring|thing|for the finger
    bridge|road|that crosses a river
    tunnel|road|that runs under a hill
    boat|vehicle|that moves on water
    plane|vehicle|that moves through the air
    train|vehicle|that runs on rails
    truck|vehicle|that carries heavy goods
    ambulance|vehicle|that carries sick people
    bicycle|vehicle|with two wheels
    submarine|vehicle|that moves under water
    taxi|vehicle|that you pay to ride in
    dictionary|book|that explains words
    novel|book|that tells a long story
    map|picture|that shows where places are
    piano|instrument|with black and white keys
    violin|instrument|with four strings
    drum|instrument|that you hit
    calendar|list|of the days of the year
    menu|list|of the meals you can order
    bed|piece of furniture|for sleeping
    chair|piece of furniture|for sitting
    desk|piece of furniture|for writing
    shelf|piece of furniture|for books
""".strip().splitlines()]

# The parts of sentences: people, things and times.
PEOPLE = """
    teacher doctor nurse farmer lawyer baker pilot soldier writer singer painter actor driver judge engineer sailor
    tailor butcher scientist chef priest king queen prince boy girl man woman mother father brother sister uncle aunt
    student player worker guest stranger friend neighbor
""".split()

# Verbs and the objects that go with them, one group a line.
SCENES = [(verbs.split(), objects.split()) for verbs, objects in [
    ("cook eat taste buy sell serve prepare order share cut",
     "bread cheese soup rice pasta pizza cake pie sandwich apple potato egg steak carrot salad"),
    ("read write copy study sell print finish praise forget remember",
     "book letter story poem report novel song page message lesson plan"),
    ("clean paint repair move carry lift push pull drop buy sell hide find lose break",
     "table chair box desk car boat bicycle lamp clock bag basket bottle guitar piano wagon"),
    ("see watch help meet call visit greet follow thank teach invite guide",
     " ".join(PEOPLE)),
    ("feed chase ride catch wash train find watch follow",
     "dog cat horse cow pig sheep goat rabbit duck donkey camel"),
    ("visit clean paint build leave enter reach protect open close",
     "house church school hospital castle museum library factory garden bridge tower shop"),
]]

ADJECTIVES = "old new big small little red blue green white black heavy clean dirty cheap famous strange".split()
TIMES = """
    every day|every morning|every evening|every week|every month|every year|on Monday|on Tuesday|on Wednesday|
    on Thursday|on Friday|on Saturday|on Sunday|in the morning|in the evening|in the afternoon|at noon|at night|
    before lunch|after dinner|after school
""".replace("\n    ", "").strip().split("|")
NAMES = "Anna Ben Clara David Emma Frank Grace Henry Julia Kevin Laura Martin Nina Oscar Paul Rose Sara Tom".split()
