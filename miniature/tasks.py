"""The tasks of the instruction set: the number of entries, the wordings of instructions, and the answer of each.

A wording is an instruction and, after the bar, an input. Names in braces are filled in from a fact (see `corpus.FACTS`)
or from the forms of a sentence. Every task has 45 known wordings, which all occur in training, and 15 new ones, which
occur in test and validation only.
"""

from typing import NamedTuple


class Task(NamedTuple):
    train: int  # entries for training, test and validation
    test: int
    validation: int
    answer: str
    known: str
    new: str

    def wordings(self, kind):
        """The known or the new wordings: [(instruction, input), ...]."""
        lines = getattr(self, kind).strip().splitlines()
        return [tuple(map(str.strip, f"{line} | ".split(" | ")[:2])) for line in lines]


TASKS = {
    "antonym": Task(76, 9, 4, "The opposite of {word} is {answer}.", """
        Name the opposite of {word}.
        What is the opposite of {word}?
        What is an antonym of {word}?
        Give an antonym for the word {word}.
        Find the opposite of the following word. | Word: {word}
        Which word is the antonym of this one? | Word: {word}
        Opposite of {word}, please.
        opposite of {word}?
        An antonym of {word}?
        Can you tell me the opposite of "{word}"?
        Please name an antonym of '{word}'.
        I need a word that means the opposite of {word}.
        Which word has the opposite meaning of {word}?
        Write down the antonym. | {word}
        State the opposite. | Word: {word}
        Give me the contrary of {word}.
        What is the contrary of the word below? | {word}
        What is the exact opposite of {word}?
        Say the opposite: {word}
        {word}: what is its antonym?
        The opposite of {word} is which word?
        Do you know an antonym for {word}?
        Could you give me the opposite of this word? | {word}
        Turn this word into its opposite. | Word: {word}
        Replace the word by its antonym. | {word}
        Provide an antonym. | Word: {word}
        Look at the word {word}. What is its opposite?
        What means the opposite of {word}?
        Tell me which word is opposite to {word}.
        Which word is the reverse of {word}?
        I am looking for the antonym of {word}. Please help.
        Find a word with the contrary meaning. | {word}
        Finish this: the antonym of {word} is
        How do you say the opposite of {word}?
        Please write the opposite of this word. | "{word}"
        What word stands opposite to {word}?
        Which antonym goes with {word}?
        Show me an antonym of the following. | {word}
        Choose a word that is opposite in meaning to {word}.
        Let me have the opposite of {word}.
        Word: {word}. Opposite?
        Think of the opposite of {word} and name it.
        My word is {word}. Name the antonym.
        Suggest an antonym for the term {word}.
        Identify the antonym of "{word}".
    """, """
        What, if anything, means quite the reverse of {word}?
        I want to say the contrary of {word}. Which word do I need?
        {word} has an antonym. Which one?
        For the word {word}, supply its opposite.
        Not {word}, but the opposite: what do we say?
        How would you call the opposite? | Term: {word}
        Just an antonym of this, please: {word}
        What do people say when they mean the opposite of {word}?
        Give the counterpart with the opposite meaning. | {word}
        Here is a word: its antonym is wanted. | {word}
        What is not {word} at all, but its contrary?
        With which word would you express the opposite of "{word}"?
        Help me find an opposite for '{word}'.
        Take this word and reverse its meaning. | Word: {word}
        The antonym of the given word, please. | {word}
    """),
    "category": Task(76, 9, 5, "The category of {word} is {answer}.", """
        What is the category of {word}?
        Which category does {word} belong to?
        Tell me what kind of thing this is: {word}
        Classify the word {word}.
        Put the following word into a category. | Word: {word}
        Name the category of this word. | Word: {word}
        Category of {word}, please.
        category of {word}?
        What kind of thing is named by "{word}"?
        What type of thing is {word}?
        What sort of thing is {word}?
        Into which group does {word} fall?
        Sort this word into its category. | {word}
        Give the category. | {word}
        Please classify '{word}'.
        Can you say which category {word} is in?
        Could you name the class of things that {word} belongs to?
        {word}: which category?
        Which group of things does the word belong to? | {word}
        State the category of the following. | Word: {word}
        Find the right category for {word}.
        I have the word {word}. In which category should I put it?
        What would you classify {word} as?
        Identify the category. | Word: {word}
        To which class of things does {word} belong?
        Assign {word} to a category.
        The category of {word} is which?
        Do you know what category {word} belongs in?
        Under which category would you list {word}?
        Choose a category for this word. | {word}
        Word: {word}. Category?
        Say what kind of thing the word names. | {word}
        Please tell me the kind of thing that {word} is.
        Where does {word} belong: in which category?
        I want to know the category of "{word}".
        Give me the group that {word} is part of.
        Write down the category of {word}.
        In what category do we find {word}?
        Show which category fits the word. | {word}
        What is {word} a kind of?
        Look at this word and give its category. | Word: {word}
        Which type is {word}?
        Group the word {word} with others of its kind.
        Determine the category of the given word. | {word}
        What class is {word} in?
    """, """
        If you had to sort {word}, into which category would it go?
        {word} is a kind of what?
        Say in one word what type of thing this is. | {word}
        Please put a category to the word {word}.
        What category should "{word}" be filed under?
        Which kind of things has {word} among them?
        Help me classify this. | Word: {word}
        Tell us the class to which '{word}' belongs.
        What do {word} and things like it have as a category?
        For the term below, a category is wanted. | {word}
        My list has {word} in it. What kind of thing is that?
        Just the category of this term, please: {word}
        How would one classify {word}?
        Of what type is the following? | {word}
        Decide which category is right. | Term: {word}
    """),
    "plural": Task(76, 9, 4, "The plural of {word} is {answer}.", """
        What is the plural of {word}?
        Give the plural form of {word}.
        Form the plural of the noun {word}.
        What do you call more than one {word}?
        Write the following noun in the plural. | Noun: {word}
        Change this noun from singular to plural. | Noun: {word}
        Plural of {word}, please.
        plural of {word}?
        Please give me the plural of "{word}".
        How do you write {word} in the plural?
        Make the noun plural. | {word}
        Put {word} into the plural.
        Turn this singular noun into a plural. | {word}
        I have one {word}. What do I say for two?
        There are several of them. What is the plural of {word}?
        Which plural form goes with '{word}'?
        Can you tell me the plural of {word}?
        Could you form the plural of this noun? | Noun: {word}
        State the plural. | Word: {word}
        {word}: plural?
        {word}, but more than one of them: which word?
        One {word}, two what?
        Name the plural of the word {word}.
        Say it in the plural. | {word}
        What is the word for several of these? | {word}
        Convert the noun {word} to its plural.
        Find the plural of this word. | {word}
        What is the correct plural of {word}?
        I need the plural form of the noun {word}.
        Pluralize {word}.
        Show me how {word} is written in the plural.
        Which word do we use for many, not for one {word}?
        Provide the plural form. | Noun: {word}
        The plural of {word} is what?
        Do you know the plural of {word}?
        Write the plural. | {word}
        Tell me the plural form of this noun: {word}
        Singular: {word}. Plural?
        What does {word} become in the plural?
        Give the form of {word} that is used for more than one.
        If there are many, what is the plural of {word}?
        Please change {word} to the plural form.
        How do you say more than one {word}?
        Supply the plural of the noun below. | {word}
        Let me know the plural of {word}.
    """, """
        I see {a_word} and then another: what do I see in all?
        Which noun stands for a number of things when one of them is {a_word}?
        Make more than one out of this. | Noun: {word}
        How is the plural written? | Word: {word}
        Just the plural of this noun, please: {word}
        Here is a noun in the singular: the plural is wanted. | {word}
        My text needs "{word}" in the plural. What should it be?
        What form does {word} take when there are three or four?
        From singular to plural, please. | {word}
        Help me to put '{word}' in its plural form.
        When {word} is not one but several, which word is used?
        What is used as the plural for {word}?
        Suppose you have lots of them. How do you write {word} then?
        For {word}, the plural is needed.
        Express the noun as a plural. | Term: {word}
    """),
    "past tense": Task(76, 9, 5, "The past tense of {word} is {answer}.", """
        What is the past tense of {word}?
        Give the past tense of the verb {word}.
        Which past form does {word} have?
        Form the past tense of {word}.
        Write the following verb in the past tense. | Verb: {word}
        Change this verb from present to past. | Verb: {word}
        Past tense of {word}, please.
        past tense of {word}?
        Please give me the past tense of "{word}".
        How do you write {word} in the past?
        Put the verb {word} into the past tense.
        Put the verb into the past. | {word}
        Turn this verb into its past form. | {word}
        Today I {word}. What did I do yesterday?
        What is the past form of '{word}'?
        Can you tell me the past tense of {word}?
        Could you form the past tense of this verb? | Verb: {word}
        State the past tense. | Word: {word}
        {word}: past tense?
        {word}, but yesterday: which form?
        Name the past form of the verb {word}.
        Say it in the past tense. | {word}
        What is the word for this when it is over? | {word}
        Convert the verb {word} to the past.
        Find the past tense of this word. | {word}
        What is the correct past form of {word}?
        I need the past tense of the verb {word}.
        Show me how {word} is written in the past tense.
        Which form of {word} do we use about yesterday?
        Provide the past form. | Verb: {word}
        The past tense of {word} is what?
        Do you know the past tense of {word}?
        Write the past tense. | {word}
        Tell me the past form of this verb: {word}
        Present: {word}. Past?
        What does {word} become in the past tense?
        Give the form of {word} that is used for the past.
        Yesterday they did it too. What is the past of {word}?
        Please change {word} to the past form.
        How do you say {word} when it happened last week?
        Supply the past tense of the verb below. | {word}
        Let me know the past tense of {word}.
        What is {word} in the past?
        Which past tense belongs to the verb? | {word}
        Make it past. | Verb: {word}
    """, """
        We {word} now. What did we do long ago, in one word?
        How is the past tense written? | Word: {word}
        Just the past form of this verb, please: {word}
        Here is a verb in the present: the past is wanted. | {word}
        My story is about last year. Which form of "{word}" should it have?
        What form does {word} take when we speak about the past?
        From the present to the past, please. | {word}
        Help me to put '{word}' in the past tense.
        When they have done it already, which past form of {word} is used?
        What is used as the past tense for {word}?
        Suppose it was long ago. How do you write {word} then?
        For {word}, the past tense is needed.
        Express the verb as something past. | Term: {word}
        If the verb is {word}, what would its past tense be?
        Which word replaces {word} in a story about yesterday?
    """),
    "spelling": Task(77, 9, 4, "The correct spelling is {answer}.", """
        The following word has a mistake. Correct it. | Word: {word}
        Correct the spelling of {word}.
        How do you spell this correctly: {word}
        Which word is misspelled here as {word}?
        Identify the correct spelling of this word. | Word: {word}
        Find the right way to spell the word below. | Word: {word}
        Correct spelling of {word}, please.
        correct spelling of {word}?
        Please fix the spelling of "{word}".
        What is the correct spelling of {word}?
        How is {word} spelled correctly?
        Fix this word. | {word}
        Fix the spelling mistake. | {word}
        Spell this word the right way. | {word}
        There is a mistake in the word {word}. Please correct it.
        I wrote {word}, which is wrong. How do I spell it?
        Write the word without the mistake. | {word}
        Can you correct the spelling of '{word}'?
        Could you fix the mistake in this word? | {word}
        {word}: how is this spelled?
        {word} is misspelled. What should it be?
        Give the correct spelling. | {word}
        State the right spelling of {word}.
        Someone wrote {word}. Correct the error.
        Which spelling is right for {word}?
        Repair the spelling: {word}
        Tell me how to spell {word} correctly.
        Show the proper spelling of {word}.
        Please correct this word. | Word: {word}
        I need the correct spelling of the word {word}.
        What word is {word} supposed to be?
        Spell {word} as it should be spelled.
        Find the spelling error and correct it. | {word}
        The word {word} contains an error. Fix it.
        Do you know the right spelling of {word}?
        Remove the spelling mistake from {word}.
        Provide the correct form of this misspelled word. | {word}
        Wrong: {word}. Right?
        Check the spelling. | {word}
        Check this word and write it correctly. | Word: {word}
        What is the right way to write {word}?
        Change {word} so that it is spelled right.
        Write {word} correctly.
        The letters are mixed up in {word}. What is the word?
        Name the word that is meant by the misspelled {word}.
    """, """
        I think "{word}" is spelled wrong. What would be right?
        How should one write this instead? | {word}
        Just the right spelling of this, please: {word}
        Here is a misspelled word: the correct one is wanted. | {word}
        My teacher marked {word} as a mistake. How must I write it?
        Put the letters of {word} in the right order.
        Help me to spell '{word}' properly.
        What did the writer of {word} want to write?
        Which correct word is hidden behind the error {word}?
        Mend the mistake. | Term: {word}
        A letter is out of place here. Make it right. | {word}
        Is there an error in {word}? Give the word as it should be.
        The dictionary does not know {word}. What is the right spelling?
        Please take the error out of this. | Word: {word}
        In what way is {word} spelled by people who know?
    """),
    "passive voice": Task(85, 10, 5, "{passive}", """
        Put this sentence into the passive voice: {active}
        Convert the active sentence to passive: {active}
        Rewrite the sentence in the passive voice. | {active}
        Change the following sentence from active to passive. | {active}
        Say the same in the passive voice. | {active}
        Make this sentence passive: {active}
        Make the sentence passive. | Sentence: {active}
        Passive voice, please: {active}
        Passive, please. | {active}
        passive voice: {active}
        Turn this into a passive sentence. | {active}
        Turn the active voice into the passive voice: {active}
        Give the passive form of this sentence. | {active}
        Please write this sentence in the passive: {active}
        Can you put this into the passive? | {active}
        Could you rewrite the following in passive form? | Sentence: {active}
        What is the passive of this sentence? | {active}
        How do you say this in the passive voice? {active}
        How does the sentence read in the passive? | {active}
        Transform the statement into the passive voice. | {active}
        Express this in the passive: {active}
        Form the passive of the following sentence. | {active}
        I need this sentence in the passive voice: {active}
        I want the passive of this. | {active}
        Use the passive voice. | {active}
        Use the passive voice to say this: {active}
        Tell me the same thing with a passive verb. | {active}
        Change the verb from active to passive: {active}
        Switch from the active to the passive voice. | Text: {active}
        State this passively. | {active}
        Rephrase this sentence using the passive voice: {active}
        Reword the sentence so that it is passive. | {active}
        Show me the passive version of this sentence. | {active}
        The sentence below is active. Write it in the passive. | {active}
        This sentence is in the active voice: {active} Put it into the passive.
        Here is a sentence: {active} What is its passive form?
        Active: {active} Passive?
        Write a passive sentence that says the same. | Sentence: {active}
        Begin with the object and use the passive: {active}
        Start the sentence with what is acted on. | {active}
        {active} Say this in the passive voice.
        Rewrite so that the object comes first, with a passive verb. | {active}
        Produce the passive version. | {active}
        Restate the following in the passive voice. | {active}
        Let the sentence be passive. | Statement: {active}
    """, """
        I would like to have this in passive form. | {active}
        From active to passive, if you can: {active}
        How would one express the following passively? | {active}
        Take the active sentence and give back a passive one. | Text: {active}
        What would this be with the verb in the passive? | {active}
        Let the object be the subject: {active}
        {active} Now the same as a passive sentence, please.
        Which passive sentence means the same as this one? | {active}
        My sentence should be in the passive voice, not the active. | Sentence: {active}
        Help me turn what follows into passive voice: {active}
        The passive voice is wanted for this statement. | {active}
        Tell what is done by whom, object first. | {active}
        Replace the active verb by a passive one and write the sentence again. | {active}
        Do you know the passive for this? {active}
        Make the doer come last, after the word by. | {active}
    """),
    "question": Task(68, 8, 4, "{question}", """
        Turn this sentence into a question: {active}
        Make a question out of the following statement: {active}
        Rewrite the statement as a question. | {active}
        Change the following sentence into a question. | {active}
        Ask whether this is so. | {active}
        Make this sentence a question: {active}
        Make it a question. | {active}
        Question, please: {active}
        As a question, please. | {active}
        question: {active}
        Convert this statement to a question. | Sentence: {active}
        Give this as a question. | {active}
        Please write this sentence as a question: {active}
        Can you put this in the form of a question? | {active}
        Could you turn the following into a question? | Statement: {active}
        What question asks about this? | {active}
        How do you ask this? {active}
        How does the statement read as a question? | {active}
        Transform the statement into a question. | {active}
        Express this as a question: {active}
        Form a question from the following sentence. | {active}
        I need this sentence as a question: {active}
        I want a question instead of this statement. | {active}
        Use the question form. | {active}
        Ask if this is true: {active}
        Ask about it. | {active}
        Ask a question with these words. | {active}
        Change the statement to a yes or no question: {active}
        Switch from a statement to a question. | Text: {active}
        Put this as a question. | {active}
        Rephrase this sentence as a question: {active}
        Reword the sentence so that it asks something. | {active}
        Show me the question form of this sentence. | {active}
        The sentence below is a statement. Write it as a question. | {active}
        Here is a statement: {active} Make it a question.
        Here is a sentence: {active} What is the question?
        Statement: {active} Question?
        Write a question that can be answered with yes or no. | Sentence: {active}
        I am not sure about this. Ask me: {active}
        You want to know whether it is true. Ask. | {active}
        {active} Say this as a question.
        Write the interrogative form of this sentence. | {active}
        Produce a question. | {active}
        Restate the following as a question. | {active}
        Find out if this is so by asking. | Statement: {active}
    """, """
        I would like to ask this. How? | {active}
        From a statement to a question, if you can: {active}
        How would one ask about the following? | {active}
        Take the statement and give back a question. | Text: {active}
        What would this be with a question mark? | {active}
        Let it end with a question mark: {active}
        {active} Now the same, but asking, please.
        Which question has this as its answer, when the answer is yes? | {active}
        My sentence should ask, not tell. | Sentence: {active}
        Help me make the interrogative of what follows: {active}
        A question is wanted for this statement. | {active}
        Is it true? Ask that about the words below. | {active}
        Do not state this, ask it. | {active}
        Do you know how to ask whether this happens? {active}
        You doubt this. Ask if it is right: {active}
    """),
    "negation": Task(68, 8, 4, "{negation}", """
        Make this sentence negative: {active}
        Negate the following statement: {active}
        Rewrite the sentence so that it says the opposite. | {active}
        Change the following sentence into a negative one. | {active}
        Deny the statement below. | {active}
        Make it negative. | {active}
        Negative, please: {active}
        As a negative sentence, please. | {active}
        negative: {active}
        Turn this into a negative sentence: {active}
        Turn the statement into its negation. | {active}
        Convert this statement to the negative. | Sentence: {active}
        Give the negative form of this sentence. | {active}
        Please write this sentence in the negative: {active}
        Can you negate this? | {active}
        Could you put the following into the negative? | Statement: {active}
        What is the negative of this sentence? | {active}
        How do you say that this is not so? {active}
        How does the sentence read in the negative? | {active}
        Transform the statement into a negative. | {active}
        Express this in the negative: {active}
        Form the negative of the following sentence. | {active}
        I need this sentence in negative form: {active}
        I want the opposite of this statement. | {active}
        Use the negative form. | {active}
        Use the word not to deny this: {active}
        Say that this is not true: {active}
        Say no to this. | {active}
        Change the sentence from positive to negative: {active}
        Switch from positive to negative. | Text: {active}
        Put a not into the sentence. | {active}
        Rephrase this sentence as a negative: {active}
        Reword the sentence so that it is negative. | {active}
        Show me the negation of this sentence. | {active}
        The sentence below is positive. Write it in the negative. | {active}
        Here is a statement: {active} Deny it.
        Here is a sentence: {active} What is its negative form?
        Positive: {active} Negative?
        Write a sentence that denies this one. | Sentence: {active}
        This is false. Say so: {active}
        It is not true. Write what is true. | {active}
        {active} Say this in the negative.
        Add not to the statement. | {active}
        Produce the negative version. | {active}
        Restate the following as a denial. | {active}
    """, """
        I would like to deny this. How? | {active}
        From positive to negative, if you can: {active}
        How would one negate the following? | {active}
        Take the statement and give back its opposite, with not. | Text: {active}
        What would this be as a denial? | {active}
        Let the sentence say no: {active}
        {active} Now the same, but with not, please.
        Which sentence says that this does not happen? | {active}
        My sentence should be negative. | Sentence: {active}
        Help me with the negation of what follows: {active}
        The negative is wanted for this statement. | {active}
        Somebody says the words below, and it is wrong. Answer that it is not so. | {active}
        Do not agree with this. Say it is false. | {active}
        Do you know how to say no to this statement? {active}
        Tell me that none of this is true: {active}
    """),
    "past-tense rewriting": Task(68, 8, 4, "{past}", """
        Put this sentence into the past tense: {active}
        Tell the following as something that is over: {active}
        Rewrite the sentence in the past tense. | {active}
        Change the following sentence from present to past. | {active}
        Move this sentence into the past. | {active}
        Make this sentence past tense: {active}
        Make it past. | Sentence: {active}
        Past tense, please: {active}
        In the past, please. | {active}
        past tense: {active}
        Turn this into the past tense. | {active}
        Turn the present of this sentence into the past: {active}
        Convert this statement to the past tense. | Sentence: {active}
        Give the past form of this sentence. | {active}
        Please write this sentence in the past tense: {active}
        Can you put this into the past? | {active}
        Could you rewrite the following in the past tense? | Statement: {active}
        What is this sentence in the past tense? | {active}
        How do you say this about the past? {active}
        How does the sentence read in the past tense? | {active}
        Transform the statement into the past. | {active}
        Express this in the past tense: {active}
        Form the past tense of the following sentence. | {active}
        I need this sentence in the past tense: {active}
        I want this to be in the past. | {active}
        Use the past tense. | {active}
        Use the past tense to say this: {active}
        Say that this has happened already: {active}
        Tell me the same about the past. | {active}
        Change the verb to the past tense: {active}
        Switch from the present to the past tense. | Text: {active}
        State this in the past. | {active}
        Rephrase this sentence using the past tense: {active}
        Reword the sentence so that it is about the past. | {active}
        Show me the past version of this sentence. | {active}
        The sentence below is in the present. Write it in the past. | {active}
        This sentence is in the present tense: {active} Put it into the past.
        Here is a sentence: {active} What is its past tense?
        Present: {active} Past?
        Write the sentence as if it were over. | Sentence: {active}
        It happened long ago. Say so: {active}
        This was last year. Write it that way. | {active}
        {active} Say this in the past tense.
        Produce the past tense version. | {active}
        Restate the following in the past tense. | {active}
    """, """
        I would like to have this in past form. | {active}
        From present to past, if you can: {active}
        How would one tell the following when it is over? | {active}
        Take the present and give back the past. | Text: {active}
        What would this be with the verb in the past? | {active}
        Let it be over and done: {active}
        {active} Now the same about the past, please.
        Which sentence says that this was so before? | {active}
        My sentence should be about long ago, not about now. | Sentence: {active}
        Help me turn what follows into past tense: {active}
        The past is wanted for this statement. | {active}
        Tell it like an old story. | {active}
        All this is already over. Put the verb right. | {active}
        Do you know the past tense for this sentence? {active}
        Pretend that it happened some time ago: {active}
    """),
    "future-tense rewriting": Task(51, 6, 3, "{future}", """
        Put this sentence into the future tense: {active}
        Tell the following as something still to come: {active}
        Rewrite the sentence in the future tense. | {active}
        Change the following sentence from present to future. | {active}
        Move this sentence into the future. | {active}
        Make this sentence future tense: {active}
        Make it future. | Sentence: {active}
        Future tense, please: {active}
        In the future, please. | {active}
        future tense: {active}
        Turn this into the future tense. | {active}
        Turn the present of this sentence into the future: {active}
        Convert this statement to the future tense. | Sentence: {active}
        Give the future form of this sentence. | {active}
        Please write this sentence in the future tense: {active}
        Can you put this into the future? | {active}
        Could you rewrite the following in the future tense? | Statement: {active}
        What is this sentence in the future tense? | {active}
        How do you say this about the future? {active}
        How does the sentence read in the future tense? | {active}
        Transform the statement into the future. | {active}
        Express this in the future tense: {active}
        Form the future tense of the following sentence. | {active}
        I need this sentence in the future tense: {active}
        I want this to be in the future. | {active}
        Use the future tense. | {active}
        Use the word will to say this: {active}
        Say that this will happen: {active}
        Tell me the same about the future. | {active}
        Change the verb to the future tense: {active}
        Switch from the present to the future tense. | Text: {active}
        State this in the future. | {active}
        Rephrase this sentence using the future tense: {active}
        Reword the sentence so that it is about the future. | {active}
        Show me the future version of this sentence. | {active}
        The sentence below is in the present. Write it in the future. | {active}
        This sentence is in the present tense: {active} Put it into the future.
        Here is a sentence: {active} What is its future tense?
        Present: {active} Future?
        Write the sentence as if it were still to come. | Sentence: {active}
        It has not happened yet. Say so with will: {active}
        This is going to happen. Write it that way. | {active}
        {active} Say this in the future tense.
        Produce the future tense version. | {active}
        Restate the following in the future tense. | {active}
    """, """
        I would like to have this in future form. | {active}
        From present to future, if you can: {active}
        How would one tell the following before it happens? | {active}
        Take the present and give back the future. | Text: {active}
        What would this be with the verb in the future? | {active}
        Let it be still to come: {active}
        {active} Now the same with will, please.
        Which sentence says that this comes later? | {active}
        My sentence should be about what will be, not about now. | Sentence: {active}
        Help me turn what follows into future tense: {active}
        The future is wanted for this statement. | {active}
        Tell what will happen next. | {active}
        None of this has happened so far, but it will. Put the verb right. | {active}
        Do you know the future tense for this sentence? {active}
        Pretend that it happens some time later: {active}
    """),
    "addition": Task(77, 9, 5, "The sum of {a} and {b} is {answer}.", """
        What is the sum of {a} and {b}?
        Please add {a} and {b}.
        Work out {a} plus {b}.
        Calculate {a} + {b}.
        Add the following numbers. | Numbers: {a} and {b}
        Find the sum of these two numbers. | Numbers: {a} and {b}
        Sum of {a} and {b}, please.
        sum of {a} and {b}?
        {a} + {b}, please.
        How much is {a} + {b}?
        What is {a} plus {b}?
        What is {a} + {b}?
        How much are {a} and {b} together?
        What do you get if you add {b} to {a}?
        Add {b} to {a}.
        Add {a} and {b}.
        Add these. | {a} and {b}
        Add up the two numbers. | {a}, {b}
        Can you add {a} and {b}?
        Could you tell me the sum of {a} and {b}?
        Give the sum. | {a} and {b}
        Give me the total of {a} and {b}.
        State the sum of {a} and {b}.
        Compute the sum. | Numbers: {a}, {b}
        Calculate the total of these numbers. | {a} and {b}
        I have {a} coins and get {b} more. How many are that?
        There are {a} boys and {b} girls. How many children are there?
        I need the sum of {a} and {b}.
        {a} and {b} make how many?
        {a} plus {b} is what?
        Tell me how much {a} plus {b} is.
        Take {a} and add {b}. What is the result?
        Do you know what {a} and {b} add up to?
        Write the sum of the two numbers. | {a} and {b}
        Show me the result of {a} + {b}.
        Solve: {a} + {b}
        Put {a} and {b} together and give the number.
        Sum up {a} and {b}.
        The sum of {a} and {b} is which number?
        What total do {a} and {b} give?
        Determine the sum of the numbers below. | {a}, {b}
        What number is {b} more than {a}?
        Count {a} things and then {b} more. How many?
        First {a}, then {b} more: what is the total?
        Find out how many {a} and {b} are together.
    """, """
        If I have {a} apples and buy {b} more, how many apples have I got?
        How many do you have when {b} come to {a}?
        Just the result of {a} plus {b}, please.
        Here are two numbers: their sum is wanted. | {a} and {b}
        My numbers are {a} and {b}. Add them for me.
        What comes out when {a} and {b} are added?
        Help me to add this up: {a} and {b}
        Which number is the total? | Numbers: {a} and {b}
        By how much does {a} grow to with {b} more? Give the sum.
        I had {a} before and {b} came later. How many in all?
        For {a} and {b}, the total is needed.
        Name the number that {a} and {b} make together.
        {b} added to {a} gives what?
        A farmer has {a} cows and {b} horses. How many animals are there?
        Do this sum for me. | {a} plus {b}
    """),
    "definition": Task(77, 9, 4, "{A_word} is {answer}.", """
        What exactly is {a_word}?
        Define the word {word}.
        Explain what {a_word} is.
        Tell me the meaning of {word}.
        Give a definition of the following word. | Word: {word}
        Say in a few words what this is. | Word: {word}
        Definition of {word}, please.
        definition of {word}?
        Please define "{word}".
        What does the word {word} mean?
        What is the meaning of {word}?
        What is meant by {a_word}?
        What do we mean by '{word}'?
        Define this. | {word}
        Define the term below. | Term: {word}
        Explain the word. | {word}
        Explain to me what {word} means.
        Can you explain what {a_word} is?
        Could you define this word? | {word}
        Could you tell me what {a_word} is?
        {word}: what does it mean?
        {word}, what is that?
        Give the meaning. | {word}
        Give me a definition of {word}.
        State the meaning of the word. | Word: {word}
        Write a definition. | {word}
        Write down what {a_word} is.
        How would you define {word}?
        How do you explain the word {word}?
        I need a definition of {word}.
        I want to know what {a_word} is.
        I do not know the word {word}. What does it mean?
        Describe what {a_word} is.
        Describe in a few words. | {word}
        Do you know what {a_word} is?
        Provide a definition for the word {word}.
        Show me the meaning of "{word}".
        Word: {word}. Meaning?
        What would a dictionary say about {word}?
        Look up {word} and tell me what it means.
        Who or what is {a_word}?
        Find the meaning of this word. | {word}
        Please tell me what this word means. | Word: {word}
        The word {word} means what?
        Say what {a_word} is.
    """, """
        A child asks what {a_word} is. What do you answer?
        How is this explained in a dictionary? | Word: {word}
        Just a definition of this, please: {word}
        Here is a word: its meaning is wanted. | {word}
        My friend said "{word}". What did my friend mean?
        What should I think of when I hear the word {word}?
        Help me to understand the word '{word}'.
        For {word}, a definition is needed.
        What kind of thing do people call {a_word}, and what sets it apart?
        What {word} is, put in a few words, please.
        Suppose that I have never seen {a_word}. Tell me about it.
        How can one say what the following means? | {word}
        If something is called {a_word}, what is it?
        What are we talking about when we say {word}?
        Make clear what {a_word} may be.
    """),
    "choice": Task(60, 7, 4, "The {category} in the list is {word}.", """
        Which of these words is {a_category}: {first}, {second}, {third}
        Find the {category} among {first}, {second} and {third}.
        Pick the word that names {a_category}. | Words: {first}, {second}, {third}
        Which word in the list is {a_category}? | Words: {first}, {second}, {third}
        Which of {first}, {second} and {third} is {a_category}?
        Which one is {a_category}? | {first}, {second}, {third}
        Choose the {category}. | {first}, {second}, {third}
        Choose the {category} from this list: {first}, {second}, {third}
        Pick the {category}: {first}, {second}, {third}
        Pick {a_category} from {first}, {second} and {third}.
        Select the word for {a_category}. | Words: {first}, {second}, {third}
        Select the {category} in this list. | {first}, {second}, {third}
        Name the {category} in the list. | List: {first}, {second}, {third}
        Name the {category}: {first}, {second} or {third}
        Find {a_category} in the following words. | {first}, {second}, {third}
        Find the word that is {a_category}. | List: {first}, {second}, {third}
        Tell me which of these is {a_category}: {first}, {second}, {third}
        Tell me the {category} in this list. | {first}, {second}, {third}
        Can you find the {category}? | Words: {first}, {second}, {third}
        Could you pick out the {category} from {first}, {second} and {third}?
        Please choose the {category} among these words. | {first}, {second}, {third}
        Please tell me which word is {a_category}: {first}, {second}, {third}
        Only one of these is {a_category}. Which one? | {first}, {second}, {third}
        One of the words names {a_category}. Find it. | Words: {first}, {second}, {third}
        Here are three words: {first}, {second}, {third}. Which is {a_category}?
        Here is a list: {first}, {second}, {third}. Name the {category}.
        {first}, {second}, {third}: which is {a_category}?
        {first}, {second}, {third}: where is the {category}?
        {first}, {second} or {third}: which of them is {a_category}?
        Identify the {category}. | {first}, {second}, {third}
        Identify the {category} among the words {first}, {second} and {third}.
        I need {a_category}. Which of these can I take? | {first}, {second}, {third}
        I am looking for {a_category} in this list: {first}, {second}, {third}
        Give me the {category} from the list. | {first}, {second}, {third}
        Give the word that means {a_category}. | Words: {first}, {second}, {third}
        Look at these words and find the {category}. | {first}, {second}, {third}
        Out of {first}, {second} and {third}, which one is {a_category}?
        What is the {category} in this list? | List: {first}, {second}, {third}
        Write down the {category}. | Words: {first}, {second}, {third}
        Show me the {category}: {first}, {second}, {third}
        Say which word belongs to the category {category}. | {first}, {second}, {third}
        Which word is of the kind {category}? | Words: {first}, {second}, {third}
        Take the {category} out of this list. | {first}, {second}, {third}
        Is {first}, {second} or {third} {a_category}?
        Do you see {a_category} in the list? Name it. | {first}, {second}, {third}
    """, """
        Between {first}, {second} and {third}, what would you call {a_category}?
        Two of these are something else, the third is {a_category}. | Words: {first}, {second}, {third}
        Nothing but the {category}, please, out of these. | {first}, {second}, {third}
        My list is {first}, {second}, {third}. I want {a_category} from it.
        Help me to find {a_category} here: {first}, {second}, {third}
        What word stands for {a_category} among the following? | {first}, {second}, {third}
        If you need {a_category}, do you take {first}, {second} or {third}?
        Read the three words and decide which is {a_category}. | {first}, {second}, {third}
        There is {a_category} among {first}, {second} and {third}. Say which it is.
        {first}, {second}, {third}. The {category} is wanted.
        Of the words that follow, give the one that is {a_category}. | {first}, {second}, {third}
        Which of the three things would go under {category}? | {first}, {second}, {third}
        Decide for me: is it {first}, {second} or {third} that is {a_category}?
        Somebody asks for {a_category}. What do you give? | Words: {first}, {second}, {third}
        Where do you see {a_category}: in {first}, in {second} or in {third}?
    """),
}
