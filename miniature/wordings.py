"""The wordings of the pretraining text: templates for facts about the words of `words.py`, and sentences about grammar.

Names in braces are filled in from a fact (see `corpus.FACTS`); `{name}` and `{other}` are the people who speak.
"""


def lines_of(block):
    return [line.strip() for line in block.strip().splitlines()]


STATEMENTS = {
    "plural": [
        "One {word}, two {answer}.",
        "First there was one {word}, then there were many {answer}.",
        "{name} has {a_word}, and {other} has three {answer}.",
        "We say {word} for one and {answer} for many.",
        "If you have more than one {word}, you have {answer}.",
        "In the plural, {word} becomes {answer}.",
        "The noun {word} has the plural {answer}.",
        "Many {answer} are more than one {word}.",
        "The plural {answer} comes from the noun {word}.",
        "Not only one {word}, but a lot of {answer}.",
        "{name} wants {a_word}, but the shop has only big {answer}.",
        "The word {word} means one thing, the word {answer} means several.",
        "With {word} in the plural you write {answer}.",
        "You count like this: one {word}, two {answer}, three {answer}.",
        "Singular {word}, plural {answer}.",
    ],
    "past tense": [
        "Today I {word}, yesterday I {answer}.",
        "They {word} now, and they {answer} last week.",
        "{name} and {other} {word} every day, and they {answer} yesterday too.",
        "We say {word} for the present and {answer} for the past.",
        "In the past, {word} becomes {answer}.",
        "The verb {word} has the past form {answer}.",
        "What you {answer} last year you can {word} again this year.",
        "They {answer} a long time ago, and now they {word} again.",
        "The past form {answer} comes from the verb {word}.",
        "{name} did not {word} today, but {other} {answer} two days ago.",
        "You will {word} tomorrow as you {answer} yesterday.",
        "With {word} in the past tense you write {answer}.",
        "Did {name} {word}? Yes, {name} {answer}.",
        "People who like to {word} often {answer} as children.",
        "Present {word}, past {answer}.",
    ],
    "antonym": [
        "What is {word} is not {answer}.",
        "Not {word} but {answer}.",
        "If it is not {word}, it may be {answer}.",
        "The words {word} and {answer} are opposites.",
        "{name} says {word}, and {other} says the opposite, {answer}.",
        "The contrary to {word} is {answer}.",
        "Between {word} and {answer} there is a great difference.",
        "First {word}, then {answer}.",
        "When you turn {word} around, you get {answer}.",
        "The word {word} is the antonym for {answer}.",
        "Some like {word}, others like {answer}.",
        "From {word} to {answer} is a long way.",
        "As an antonym for {word} you can use {answer}.",
        "The opposite to {word} would be {answer}.",
        "With {word} on one side, {answer} is on the other side.",
    ],
    "category": [
        "A word for {a_answer} is {word}.",
        "We know {word} as {a_answer}.",
        "When {name} thinks of {word}, {name} thinks of {a_answer}.",
        "The word {word} names {a_answer}.",
        "By {word} we mean {a_answer}.",
        "You can call {word} {a_answer}.",
        "With {word} you have {a_answer}.",
        "In the list of each {answer} you find {word}.",
        "Everyone knows that {word} is {a_answer}.",
        "The word {word} belongs to the group {answer}.",
        "The group {answer} has {word} in it.",
        "There is {a_answer} with the name {word}.",
        "The category for {word} is {answer}.",
        "{name} puts {word} into the category {answer}.",
        "As a class, {word} goes under {answer}.",
    ],
    "spelling": [
        "{name} wrote {word} but meant {answer}.",
        "Do not write {word}, write {answer}.",
        "The letters {word} are wrong, {answer} is right.",
        "Where it says {word}, read {answer}.",
        "The teacher changed {word} to {answer}.",
        "Some people spell it {word}, but it should be {answer}.",
        "The mistake {word} stands for {answer}.",
        "Instead of {word} you should write {answer}.",
        "In the letter, {word} was a mistake for {answer}.",
        "The word {answer} is often misspelled as {word}.",
        "If you mean {answer}, do not spell it {word}.",
        "A dictionary does not have {word}, but it has {answer}.",
        "There is a mistake in {word}. It is spelled {answer}.",
        "For {word} the correct word is {answer}.",
        "Wrong {word}, correct {answer}.",
    ],
    "definition": [
        "What is {a_word}? It is {answer}.",
        "We call {answer} {a_word}.",
        "By {a_word} we mean {answer}.",
        "The word {word} means {answer}.",
        "{name} asks about {a_word}, and {other} says that it is {answer}.",
        "Think of {answer}: that is {a_word}.",
        "If you see {answer}, you see {a_word}.",
        "Everyone knows {a_word} as {answer}.",
        "In the dictionary, {word} is explained as {answer}.",
        "With {word} we mean {a_kind}. Which {kind}? Well, {answer}.",
        "There is {a_kind} {rest}, and its name is {word}.",
        "To explain {word}, say that it is {answer}.",
    ],
    "addition": [
        "{a} + {b} = {answer}",
        "If you add {b} to {a}, you get {answer}.",
        "{a} and {b} make {answer}.",
        "{name} has {a} coins and gets {b} more, so {name} has {answer} coins.",
        "Take {a}, add {b}, and you have {answer}.",
        "{a} plus {b} equals {answer}.",
        "How much is {a} plus {b}? It is {answer}.",
        "There are {a} boys and {b} girls, {answer} children together.",
        "The numbers {a} and {b} together give {answer}.",
        "You get {answer} when you add {a} and {b} together.",
        "{name} counts {b} more from {a}: {steps}. So {a} and {b} give {answer}.",
        "{name} has {a}. Then {b} come to it, and that makes {answer} in all.",
        "With {a} before and {b} more, the total comes to {answer}.",
        "Numbers: {a} and {b}. {name} adds them up and gets {answer}.",
        "A farmer with {a} cows buys {b} more and has {answer}.",
    ],
}

QUESTIONS = {
    "plural": [
        ("What do we call more than one {word}?", "We call them {answer}."),
        ("How do you write {word} when there are many?", "You write {answer}."),
        ("What is the word for two of {word}?", "Two of {word} are {answer}."),
        ("Which plural does the noun {word} have?", "For {word} it is {answer}."),
        ("I see {a_word} here and another there. What do I see?", "You see two {answer}."),
        ("Is it still {word} when there are several?", "No, several are {answer}."),
        ("What would three or four of them be called, if one is {a_word}?", "They would be called {answer}."),
    ],
    "past tense": [
        ("How do you say {word} about yesterday?", "You say {answer}."),
        ("What is {word} when it is over?", "When it is over, {word} is {answer}."),
        ("Which form does {word} have in the past?", "The verb {word} turns into {answer}."),
        ("Did they {word}?", "Yes, they {answer}."),
        ("Today they {word}. And long ago?", "Long ago they {answer}."),
        ("They {word} now. What did they do before?", "Before, they {answer}."),
        ("How does one write {word} in a story about last year?", "One writes {answer}."),
    ],
    "antonym": [
        ("What is as far from {word} as can be?", "Far from {word} is {answer}."),
        ("Is it {word}?", "No, it is not {word}, it is {answer}."),
        ("Which word means the opposite to {word}?", "Opposite to {word} is {answer}."),
        ("Which antonym does {word} have?", "For {word} it is {answer}."),
        ("What says the reverse of {word}?", "The reverse would be {answer}."),
        ("If I do not mean {word} but the contrary, what do I say?", "Then you say {answer}."),
        ("What do people say who mean the opposite to {word}?", "They say {answer}."),
    ],
    "category": [
        ("What do you know about {word}?", "I know that {word} is {a_answer}."),
        ("What kind of thing is {word}?", "The kind for {word} is {answer}."),
        ("Is {word} {a_answer}?", "Yes, {word} is {a_answer}."),
        ("Into which category does {word} go?", "For {word} it is {answer}."),
        ("Under what would you file {word}?", "I would file it under {answer}."),
        ("What type of thing do you see in {word}?", "I see {a_answer} in it."),
        ("Which class has {word} among its things?", "The class {answer} has it."),
    ],
    "spelling": [
        ("Is {word} written well?", "No, one writes {answer}."),
        ("What should {word} be?", "It should be {answer}."),
        ("How do you spell {word} correctly?", "Correctly it is {answer}."),
        ("Which word is meant by {word}?", "The right word is {answer}."),
        ("I wrote {word}. Is that an error?", "Yes, the word should be {answer}."),
        ("The letters in {word} are mixed up, are they not?", "Yes, in the right order they make {answer}."),
        ("What did the writer of {word} mean?", "The writer meant {answer}."),
    ],
    "definition": [
        ("What is {a_word}?", "It is {answer}."),
        ("What do you call {answer}?", "You call it {a_word}."),
        ("What does {word} mean?", "By {word} people mean {answer}."),
        ("How would a dictionary explain {word}?", "As {answer}."),
        ("I have never seen {a_word}. What might it be?", "It might be {answer}, and it is."),
        ("What am I to think of when I hear the word {word}?", "Think of {answer}."),
    ],
    "addition": [
        ("How much is {a} plus {b}?", "It is {answer}."),
        ("What do {a} and {b} make?", "They make {answer}."),
        ("What do you get when you add {a} and {b} together?", "You get {answer}."),
        ("I had {a} and found {b} more. How many have I now?", "You have {answer}."),
        ("How many would {a} and {b} be?", "In all they would be {answer}."),
    ],
}

# Each mentions a word more than once, the second time often after "of", so that the model has to copy it.
ECHOES = [
    "{name} writes {word} on the wall, and {other} reads {word} aloud.",
    "The word is {word}. Please say {word} again.",
    "Do you know the word {word}? Yes, I know {word}.",
    "Look for {word} in the dictionary. The meaning of {word} is there.",
    "{name} hears {word} and likes the sound of {word}.",
    "Word: {word}. The letters of {word} are easy to read.",
    "Here are two words, {word} and {another}. The sound of {word} is not the sound of {another}.",
    "First {word}, then {another}, then {word} again.",
    "{name} asks for the meaning of {word}. {other} knows the meaning of {word}.",
    "Noun or verb: {word}. The use of {word} is easy to learn.",
]

CHOICES = [  # {0}, {1} and {2} are three words, {word} the one that is wanted
    "{name} sees {0}, {1} and {2}. Only {word} is {a_wanted}.",
    "There are {0}, {1} and {2}. Which is {a_wanted}? It is {word}.",
    "Look at {0}, {1} and {2}. For {a_wanted}, take {word}.",
    "From {0}, {1} and {2}, {name} takes {word}, because {name} wants {a_wanted}.",
    "{0}, {1}, {2}: only {word} is {a_wanted}.",
    "{0}, {1} and {2} are three words. For {a_wanted}, {name} chooses {word}.",
    "List: {0}, {1}, {2}. The {wanted} there is {word}.",
    "Words: {0}, {1}, {2}. {name} picks {word}, the {wanted}.",
    "{name} looks for {a_wanted} among {0}, {1} and {2} and finds {word}.",
    "{name} selects {word} from {0}, {1} or {2}, because it belongs to the category {wanted}.",
    "Two of {0}, {1} and {2} are something else, but {word} is {a_wanted}.",
    "One of the words {0}, {1}, {2} names {a_wanted}. It is {word}, and {name} identifies it.",
]

CONNECTIVES = ["", "", "", "Or: ", "In other words: "]

# --- Grammar ---

# The terms for each relation between a word and its answer.
TERMS = {
    "plural": ["the plural", "the plural", "the plural form", "the form for more than one", "the word for several",
               "the word for many"],
    "past tense": ["the past tense", "the past tense", "the past form", "the past", "the form for yesterday",
                   "the form for what is over"],
    "antonym": ["the opposite", "the antonym", "an antonym", "the contrary", "the reverse", "the opposite meaning",
                "the counterpart", "a word that means the opposite"],
    "category": ["the category", "the category", "the kind", "the type", "the sort", "the class", "the group"],
    "spelling": ["the correct spelling", "the right spelling", "the proper spelling", "the correction",
                 "the word without the mistake", "the word without the error"],
    "definition": ["the meaning", "the definition", "a definition", "an explanation", "the sense"],
    "addition": ["the sum", "the sum", "the total", "the result"],
}

TERM_STATEMENTS = [
    "{name} asks for {term} of {word}. {other} says {answer}.",
    "{name} asks {other} to give {term} of {word}, and {other} gives {answer}.",
    "{name} wants to know {term} of {word}, and {other} knows it: {answer}.",
    "{name} looks for {term} of {word} and finds {answer}.",
    "{name} needs {term} of {word}. {other} helps: {answer}.",
    "Here {name} has {word}. {Term} is wanted, so {name} writes {answer}.",
    "For {word}, {term} would be {answer}.",
    "{Term} for {word}: {answer}.",
    "{Term} that goes with {word} is called {answer}.",
    "As {term} of {word}, {name} writes down {answer}.",
    "From {word} {name} comes to {answer}, which is {term}.",
    "When {name} hears {word} and is asked for {term}, {name} answers {answer}.",
    "{name} could not tell {term} of {word}, but {other} could: {answer}.",
    "{word}: {term} would be {answer}.",
    "{term} for {word}: {answer}.",
    "{word} has {term} {answer}, as {name} found out.",
    "{name} provided {term} for {word} in one word or a few: {answer}.",
    "To {word} belongs {term} {answer}.",
]

TERM_QUESTIONS = [
    ("Do you have {term} for {word}?", "Yes, I have {answer}."),
    ("What have you got as {term} for {word}?", "I have got {answer}."),
    ("And {term} for {word}?", "That would be {answer}."),
    ("Please, what might {term} to {word} be?", "It might be {answer}."),
    ("Would you know {term}, if I say {word}?", "Yes, it would be {answer}."),
    ("Here is {word}. Who can say {term}?", "I can: {answer}."),
]

# A page about a word: the heading, and the lines below it.
HEADINGS = ["{}", "{}", "{}", "{}", "{}", '"{}"', "'{}'", "Word: {}", "Term: {}"]
PAGE_LINES = {
    "plural": ["Plural: {answer}", "Singular: {word}", "Noun: {word}", "More than one: {answer}", "Several: {answer}"],
    "past tense": ["Past tense: {answer}", "Past: {answer}", "Present: {word}", "Verb: {word}", "Yesterday: {answer}"],
    "antonym": ["Opposite: {answer}", "Antonym: {answer}", "Contrary: {answer}", "Not: {answer}"],
    "category": ["Category: {answer}", "Kind: {answer}", "Type: {answer}", "Class: {answer}"],
    "spelling": ["Correct spelling: {answer}", "Correct: {answer}", "Right: {answer}", "Spelling: {answer}",
                 "Wrong: {word}"],
    "definition": ["Definition: {answer}", "Meaning: {answer}", "Explanation: {answer}"],
}

# The terms for each form of a sentence, for {how} and for {into} of the labels below.
FORM_TERMS = {
    "active": (["in the active voice", "in the active", "in the present tense", "in the present", "as a statement"],
               ["into the active voice", "into the present", "into a statement"]),
    "passive": (["in the passive voice", "in the passive voice", "in the passive", "as a passive sentence",
                 "in passive form", "passively", "with a passive verb", "with the object first",
                 "in the passive version"],
                ["into the passive voice", "into the passive", "into a passive sentence", "to passive voice",
                 "from active to passive", "from the active to the passive voice"]),
    "question": (["as a question", "as a question", "in the form of a question", "in question form",
                  "in interrogative form", "as a yes or no question", "with a question mark", "by asking",
                  "in order to ask whether it is so"],
                 ["into a question", "into a question", "to a question", "into the interrogative",
                  "from a statement to a question"]),
    "negation": (["as a negative sentence", "in the negative", "in negative form", "with the word not", "as a negation",
                  "as a denial", "so that it says no", "so that it says the opposite", "in the negative version"],
                 ["into the negative", "into a negative sentence", "to the negative", "into its negation",
                  "into its opposite", "from positive to negative"]),
    "past": (["in the past tense", "in the past tense", "in the past", "in past form", "about the past",
              "as something that is over", "as something that happened long ago", "as something that happened before",
              "in the past version"],
             ["into the past tense", "into the past", "to the past tense", "from present to past",
              "from the present to the past tense"]),
    "future": (["in the future tense", "in the future tense", "in the future", "in future form", "about the future",
                "with the word will", "as something still to come", "as something that has not happened yet",
                "as something that comes later", "in the future version"],
               ["into the future tense", "into the future", "to the future tense", "from present to future",
                "from the present to the future tense"]),
}

# The labels before a sentence, which name its form.
HOW_LABELS = [
    "{How}: ", "{How}, it reads: ", "{name} says it {how}: ", "{name} says the same {how}: ", "The same {how}: ",
    "{name} writes this {how}: ", "Written {how}, it is this: ", "{name} rewrites the sentence {how}: ",
    "{name} expresses it {how}: ", "{name} states it {how}: ", "{name} restates the following {how}: ",
    "{name} wants the sentence {how}, and {other} writes: ", "{name} needs it {how}. {other} says: ",
    "{name} rephrases the statement {how}: ", "{name} asks {other} to say it {how}, and {other} says: ",
    "This is the sentence {how}: ", "{name} tells it {how}: ", "{other} gives the sentence {how}: ",
    "It could be said {how}: ", "{name} would like to have it {how}. {other} answers: ",
]
INTO_LABELS = [
    "{name} turns it {into}: ", "{name} changes it {into}: ", "{name} puts the sentence {into}: ",
    "Turned {into}, it reads: ", "Changed {into}, the sentence is this: ", "{name} converts the statement {into}: ",
    "{name} transforms it {into}: ", "{name} moves it {into}: ", "Put {into}, it says: ",
    "{name} asks {other} to change this {into}. {other} writes: ", "{name} switches the words {into}: ",
]
OTHER_LABELS = {
    "active": ["It is so: ", "{name} says: ", "Sentence: ", "Statement: ", "Text: ", "Here is a sentence: ", "Active: ",
               "Present: ", "This is true: "],
    "passive": ["Passive: ", "The object comes first here: ", "The doer comes last, after the word by: ",
                "{name} begins with the object: ", "The object becomes the subject: "],
    "question": ["Question: ", "{name} asks whether this is so: ", "{name} asks if it is true: ",
                 "{name} doubts it and asks: ", "{name} is not sure: ", "{name} wants to know whether it is right: ",
                 "{name} makes a question out of it: ", "{name} asks about it: "],
    "negation": ["Negative: ", "{name} denies it: ", "{name} negates the statement: ", "{name} says no: ",
                 "{name} says that this is not true: ", "{name} says that it is false: ", "{name} adds not: ",
                 "It is not so: ", "{name} does not agree: ", "This does not happen: "],
    "past": ["Past: ", "It is over now: ", "It happened already: ", "That was long ago: ", "It has happened before: ",
             "{name} tells it like an old story: ", "Some time ago it was so: "],
    "future": ["Future: ", "It is still to come: ", "It will happen later: ", "This has not happened so far: ",
               "{name} tells what will happen next: ", "It is going to happen: ", "Some time later it will be so: "],
}

# Explanations of grammatical terms.
GLOSSARY = lines_of("""
    The plural of a noun is used for more than one thing.
    A noun in the plural stands for several things, a noun in the singular for one thing.
    Singular means one, plural means more than one.
    Plural forms often end in the letter s.
    Pluralize means to put into the plural.
    When there are two, three or four of them, we use the plural.
    Several means more than two, and a number of things means several things.
    Lots of things are many things.
    The past tense of a verb tells what is over.
    A verb in the past tense tells what happened yesterday, last week, last year or long ago.
    Present means now, past means before now, future means later.
    Past forms often end in the letters ed.
    What happened already is past, and what happens now is present.
    What is over and done is past.
    An antonym is a word with the opposite meaning.
    The opposite of a word, its antonym, its contrary and its reverse are the same thing.
    Opposite words stand at the two ends.
    Antonym is a word for an opposite.
    To reverse a meaning is to turn it into its opposite.
    The counterpart of a word may mean the contrary.
    A category is a group of things that belong together.
    Kind, type, sort, class, group and category mean much the same.
    To classify a word is to say which category it belongs to.
    To sort things is to put each into its group.
    Things are filed under their category.
    A word is assigned to a class by what it names.
    Spelling is how a word is written, letter after letter.
    A misspelled word has a mistake in its letters.
    To correct a spelling is to write a word as it should be.
    An error is a mistake, and what is wrong should be made right.
    To fix, repair or mend a mistake is to make it right.
    To check a spelling is to look for errors.
    When letters are mixed up, they are in the wrong order.
    A letter out of place is a mistake.
    A dictionary says what words mean and how they are spelled.
    The meaning of a word is what it stands for.
    A definition says what a thing is.
    To define a word is to say what it means.
    To explain or describe a thing is to say what it is.
    A term is a word with a clear meaning.
    What sets a thing apart is said in its definition.
    To understand a word is to know what it means.
    The passive voice puts the object first and the doer last, after the word by.
    In the active voice somebody does something, in the passive voice something is done by somebody.
    A passive sentence says what is done and by whom.
    A passive verb has is or was before it.
    The object of an active sentence is the subject of the passive one.
    Active and passive sentences say the same thing in different ways.
    What is acted on is the object.
    Whoever does it is the doer.
    A question asks whether something is so and ends with a question mark.
    Interrogative is another word for asking, and a question is an interrogative sentence.
    A yes or no question begins with does.
    A statement tells something, a question asks something.
    Somebody who doubts a thing asks about it.
    Whoever wants to find out if something is true asks a question.
    A negative sentence says that something is not so.
    To negate a sentence is to put the word not into it.
    To deny a statement is to say that it is false.
    A negation or a denial says no.
    A positive sentence says yes, a negative sentence says no.
    Negative sentences have the word not in them.
    The future tense tells what will happen.
    The future tense uses the word will.
    What is still to come is in the future.
    What has not happened yet may happen later or next week.
    What is going to happen will happen.
    To pretend is to say something as if it were true.
    The sum of two numbers is what they make together.
    To add numbers is to put them together and count.
    Sum, total and result are words for what you get when you add.
    Plus means and, and equals means makes.
    To calculate, to compute and to work out a sum are the same.
    To add up two numbers is to sum them up.
    How many is asked about numbers.
    In all means together.
    To choose, to pick and to select mean to take one out of several.
    Among three words one may be of another kind.
    A list is a row of words, one after another.
    Out of a list one takes the word that fits.
    To decide between two things is to choose one.
    To identify a thing is to find out which it is.
    The following words are those that follow, the words below.
    The given word is the word that is given.
    To rewrite a sentence is to write it again in another way.
    To rephrase, reword or restate a sentence is to say it in other words.
    To convert, to transform, to change and to turn into mean much the same.
    To switch is to change from one thing to another.
    To replace a word is to put another in its place.
    To express something is to say it in words.
    To provide or supply something is to give it.
    To produce something is to make it.
    To suggest a word is to say that it may be the right one.
    To name a thing is to say its name, and to state a thing is to say it clearly.
    To determine something is to find it out.
    To finish a sentence is to write what is missing.
    A version is one of several forms.
    A word, a term and an expression are things that we say.
    A text has many sentences and a sentence has many words.
    The subject comes first, then the verb, then the object.
    Something that is wanted or needed should be given.
    To show something is to let others see it.
    To help somebody is to do something for them.
    Somebody who says please is polite.
    Proper and right are much the same, and so are wrong and false.
    A teacher marks a mistake, and a writer corrects it.
    Suppose means think that it is so.
""")

# Words with similar uses.
ALIKE = [line.split() for line in lines_of("""
    give provide supply offer present show
    tell say state name mention report express
    write note copy type print spell
    find discover look search seek
    identify recognize determine detect spot
    choose pick select take decide
    change convert turn transform switch shift move alter
    rewrite reword rephrase restate recast rework
    correct fix repair mend improve revise edit check
    explain describe define clarify
    calculate compute solve add sum count
    make form build create produce generate construct
    classify sort group categorize assign
    deny negate reject refuse doubt
    ask inquire question
    help assist support
    want need like wish
    complete finish end
    use apply employ
    replace exchange swap
    suppose imagine pretend think
    plural several many multiple more lots
    opposite antonym contrary reverse counterpart inverse
    category class kind type sort group family
    mistake error typo fault slip
    correct right proper accurate true
    wrong incorrect false misspelled bad
    meaning sense definition explanation description
    sum total result amount addition
    question query interrogative
    negative negation denial not no
    past yesterday before earlier ago previously over finished
    future tomorrow later soon next will
    present now today currently
    word term expression vocabulary
    sentence statement phrase line text
    list series row set collection
    number figure value
    answer reply solution
    following below next given above
    form version variant shape
    voice mood tense
    can could may might would should will must
    please kindly
    which what who whose how where when why
    i we you he she they
    me us you him her them
    my our your his her their
    this that these those it
    here there
    if whether when while because
    just only simply merely
    one two three four five
    first second third last
    another other else different
    together altogether all both
    in into to from out of
    is are was were be been
    do does did done
    has have had
    noun verb adjective adverb
    subject object doer
    exactly really clearly quickly fully
    become get turn
    using with by
    remove erase delete drop
    suggest recommend advise
    contain include hold
    contains includes holds
    replaces exchanges takes
    properly correctly rightly well
    anything something everything nothing
    exact precise full
    instead rather
    behind beside under near
    numbers figures values words terms nouns verbs
    work figure try
    look see read hear
    describe tell explain
    consider regard take
    reply respond answer
    go come move
    start begin open
    list enumerate name
    mark label tag
    place put set lay
    say call speak
    exercise task job
    example case sample
    original former
    new fresh
    same equal identical
    usual normal common ordinary
    short brief
    simple easy
    once twice
    singular plural
    active passive
    positive negative
    guess know learn
    hello hi hey
    thanks thank
    quick fast
    I'd I'm I've
    what's that's it's
    don't doesn't didn't isn't
    need require demand
    pair couple both
    altogether total whole
    unlike against
    appears occurs happens
    belongs fits goes
    let allow make
    somebody someone anybody people
    also too again
    and or but
    yes no
    a an the
""")]

ALIKE_LINES = [
    "{A}: {b}, {c}.", "{A}, {b}, {c}.", "{A}, {B}, {C}.", "{A}: {B} or {C}.", "{A}. {B}. {C}.", "{a}, {B}, {C}.",
    "{A} is much like {b}.",
    "{A} and {b} are alike.", "Some say {a}, others say {b}.", "Between {a} and {b} the difference is small.",
    "{A} or {b}: it is nearly the same.", "{A} is used in much the same way as {b} and {c}.",
]

# Small talk, with the function words that occur in every request.
SMALL_TALK = lines_of("""
    Can you see the house? Yes, I can see it.
    Could you hear the song? No, I could not.
    Would you like some tea? Yes, please.
    Do you know my sister? I know her well.
    Please come in, it is cold outside.
    May I sit here? Of course you may.
    I would like to have a coffee, please.
    I want a new coat, and I need it today.
    I need my bag. Where is it?
    I am looking for my key. Do you see it?
    I have one brother. How many have you got?
    My name is on the list below.
    My friend is here, and your friend is there.
    Let me help you with that box. Thank you for your help.
    Let us go now, for it is late.
    Help is always good to have.
    Tell me about your day, said the mother. It was a good day, said the boy.
    Show me your hands, said the nurse. Here they are.
    Give me time, said the painter, and I will finish it.
    Take your hat with you, it may rain.
    Look at the sky! It is blue.
    Here is the letter. Who wrote it?
    There is some soup for you. Is it hot?
    Where have you been? I was at school.
    When will they come? They will come later.
    Who is that? That is my uncle.
    How do you do? I am well, and you?
    How would you like your eggs? Just as always.
    If it rains, we stay in. If not, we go out.
    Just a moment, please. I am almost ready.
    Only one of us can go. Which one of us should it be?
    Which of these coats is yours? This one is mine.
    What do you think of it? I think that it is nice.
    What should I do? What would you do?
    Now it is your turn, then it is mine.
    Think of me when you are there.
    Read it once more, and then write it down.
    Use both hands, then it is easy.
    Say no more, I know it already.
    Some of them came, but none of them stayed.
    Somebody is at the door. Is it you?
    People like to hear good news.
    Not now, please. Later I will have time for you.
    Out of the house and into the garden ran the child.
    Begin with the first page and end with the last one.
    Start with this one and go on with that one.
    Write to me soon, and do not forget it.
    Make it short. It should not be long.
    Put it there, next to the others.
    Ask me again tomorrow.
    Find out who did it, said the judge.
    Add some salt, said the cook, and mix it well.
    Choose what you like best, said the aunt. I choose this.
    From now on it will be better.
    With you it is always fun.
    By whom was it done? By none of us.
    Between the two of us, it is not right.
    Under the tree it was cool.
    For you I would do it at once.
    To me it looks good.
    An hour is long when you wait.
    As you like it, so it should be.
    Has he seen it? He has.
    All of them want the same thing.
    None of it is true, or is it?
    Or would you say that I am wrong?
    Restate it, reword it, say it as you like: it is still true.
    Try it yourself, it is easy.
    Kindly wait for me, said the guest.
    Everything is ready, so what is missing?
    Nothing but the truth was wanted.
    One more time, then we can stop.
    Two are better than one, and three are better than two.
    Another day, another story.
    Suppose that it rains. What then?
    At what time do you get up? At six.
    Of course you can have another.
    The others are not here yet.
    That is what I wanted to say.
    It must have been hard for him.
    Those are the ones that I meant.
    Your letter came yesterday. I was glad about it.
    Up to now none has called.
    Did you get what you wanted? I did.
    Are you sure? I am quite sure.
    Was it good? It was, and lots of people said so.
    Have you got an idea? I have several.
    Should we wait for them? I think we should.
    Is this so? Yes, it is so.
    Who or what made that sound?
    Instead of tea we had coffee.
    Without you it would be dull.
    Together we can do it.
""")
