"""The wordings that the model in the box learns: questions and answers of each type, all written for it.

A type has eight questions at most: typed answers know a question by them.
"""

QUESTIONS = {
    "genre": (
        "What is the genre?", "What genre is this music?", "Which genre does this piece belong to?",
        "What kind of music is this?", "Name the genre of the song.", "What style of music is it?",
        "How would you label the genre of this clip?", "What is the main genre here?",
    ),
    "classical": (
        "Is this classical music?", "Is it classical music?", "Is the music classical?", "Is this piece classical?",
        "Would you call this classical music?", "Does it sound like classical music?", "Is the genre classical?",
        "Is this a classical piece?",
    ),
    "mood": (
        "What is the mood?", "What is the mood of this music?", "How does this piece feel?",
        "What atmosphere does the clip have?", "Which feeling does the song convey?",
        "What mood does this put you in?",
        "How would you describe the emotion in the music?", "Is it a sad or a cheerful piece?",
    ),
    "energy": (
        "How energetic is it?", "How much energy does the music have?", "How intense is this piece?",
        "Is the music calm or driving?", "What is the energy level of the song?", "How lively is it?",
    ),
    "tempo_class": (
        "How fast is it?", "What is the tempo?", "What is the tempo of this song?",
        "How would you describe the tempo?",
        "Is this music slow, medium or fast?", "At what pace is this played?", "How quickly does the beat go?",
        "What can you say about the speed of the piece?",
    ),
    "metre": (
        "What is the metre?", "What is the time signature?", "In which metre is this piece?",
        "How is the beat counted?", "Which time signature fits this clip?", "What metre does the band play in?",
        "How are the beats of a bar grouped?", "Is it in three or in four?",
    ),
    "vocals": (
        "Is there a singer?", "Are there vocals?", "Does somebody sing?", "Is there singing?",
        "Can you hear a singer?",
        "Does the song have vocals?", "Is there a human voice?", "Are there any voices in this music?",
    ),
    "voice": (
        "Who sings?", "Whose voice is it?", "Is the singer a woman or a man?", "Is the voice female or male?",
        "What kind of voice is singing?", "Who is the singer?", "Whose voice do you hear?",
        "Is it a male or a female singer?",
    ),
    "instruments": (
        "Which instruments play?", "Which instruments are playing?", "What instruments can be heard?",
        "List the instruments in this clip.", "What is the line-up of this recording?",
        "Name every instrument you hear.",
        "Which instruments make up the band?", "What do you hear?",
    ),
    "lead_instrument": (
        "What is the lead instrument?", "Which instrument plays the melody?", "Who carries the tune here?",
        "Which instrument is in the foreground?", "Which instrument takes the lead?",
        "On what is the main melody played?", "What plays the melody?", "What is the main instrument?",
    ),
    "lead_family": (
        "Which family does the lead instrument belong to?", "What family of instruments plays the melody?",
        "What is the lead family?", "What sort of instrument takes the lead?",
        "To which instrument family does the melody belong?", "What type of instrument carries the tune?",
    ),
    "drums": (
        "Are there drums?", "Are there drums in this music?", "Can you hear drums?", "Is a drummer playing along?",
        "Does the song have drums?", "Is there any percussion in this clip?", "Do drums keep the beat here?",
        "Is there a drum kit?",
    ),
    "bass": (
        "Is there a bass?", "What kind of bass is playing?", "Which bass do you hear?",
        "Is there a bass, and of what kind?", "What plays the bass line?", "What is the bass?",
        "Does a bass play?", "Describe the bass in a few words.",
    ),
    "electronic": (
        "Is the sound electronic or acoustic?", "Is it electronic or acoustic?", "Is this electronic music?",
        "Are the instruments electronic or acoustic?", "Is the music acoustic?", "Is it made by machines or by hand?",
    ),
    "music": (
        "Is there music?", "Is this music?", "Do you hear music?", "Is any music playing?",
        "Is it music or something else?",
    ),
    "long_description": (
        "Describe this music.", "Describe this music in detail.", "Tell me everything you hear in this clip.",
        "Give a full description of the song.", "What is going on in this piece of music?",
        "Write a few sentences about this recording.",
    ),
    "long_use": (
        "Where could this music be used, and why?", "In what situation would someone play this song?",
        "For which scene or occasion does this music fit?", "Who might enjoy this track, and when?",
        "Suggest a use for this recording and explain it.", "What would this music be good for?",
    ),
    # What sound alone does not tell, or what was never learnt.
    "unknown": (
        "What is the title of this song?", "Who composed this music?", "Who is the artist?", "Which band is this?",
        "In which year was it recorded?", "When was this song released?", "What are the lyrics about?",
        "Which words are sung?", "In which language is it sung?", "Where was this recorded?",
        "On which album is this song?", "Which film is this music from?", "How many people play?",
        "Who produced the record?", "Which label published it?", "How much does it cost?", "Who owns the rights?",
        "What do the lyrics say?", "Is this a famous song?", "Do you like it?", "What colour is the cover?",
        "Who wrote the words?", "Which country is the band from?", "How old is the singer?",
        "What is the weather like?",
        "Which chord comes first?", "How many notes are played?", "What is the name of the piece?",
        "Which studio was used?", "Who is the conductor?", "Which microphone was used?", "Is it a cover version?",
    ),
}  # fmt: skip

PRESENCE_QUESTIONS = (
    "{Is_there} {a_name}?", "Can you hear {a_name}?", "Do you hear {a_name}?", "Does {a_name} play?",
    "Is {a_name} playing?",
)
PRESENCE_ANSWERS = {
    True: ("Yes, there is {a_name}.", "Yes, you can hear {a_name}.", "Yes, {a_name} plays."),
    False: ("No, there is no {name}.", "No, no {name} can be heard.", "No, no {name} plays."),
}
PLURAL_PRESENCE_ANSWERS = {
    True: ("Yes, there are {name}.", "Yes, you can hear {name}.", "Yes, {name} play."),
    False: ("No, there are no {name}.", "No, no {name} can be heard.", "No, no {name} play."),
}
PLURAL_PRESENCE_QUESTIONS = ("Are there {name}?", "Can you hear {name}?", "Do you hear {name}?", "Do {name} play?")

ANSWERS = {
    "genre": ("The genre is {x}.", "This is {x} music.", "It is {x}.", "I would call this {x}.", "It belongs to {x}."),
    "classical yes": (
        "Yes, this is classical music.", "Yes, it is classical music.", "Yes, the music is classical.",
    ),
    "classical no": (
        "No, this is not classical music.", "No, it is not classical music.", "No, it is not classical.",
    ),
    "mood": ("The mood is {x}.", "It feels {x}.", "The music sounds {x}.", "The atmosphere is {x}.", "It is {x}."),
    "energy": ("The energy is {x}.", "It is {x}.", "The music is {x}.", "I would call it {x}."),
    "tempo_class": (
        "The tempo is {x}.", "It is {x}.", "The piece moves at a {x} tempo.", "The beat is {x}.",
        "The music is played at a {x} pace.",
    ),
    "metre": (
        "The time signature is {x}.", "It is in {x} time.", "The metre is {x}.", "The beat is counted in {x}.",
        "The piece has a {x} beat.",
    ),
    "vocals yes": (
        "Yes, there is a singer.", "Yes, somebody is singing.", "Yes, there is singing.", "Yes, there are vocals.",
    ),
    "vocals no": (
        "No, there is no singer.", "No, it is instrumental.", "No, there is no singing.", "No, there are no vocals.",
    ),
    "voice female": ("A woman sings.", "The singer is a woman.", "It is a female voice.", "The voice is female."),
    "voice male": ("A man sings.", "The singer is a man.", "It is a male voice.", "The voice is male."),
    "voice none": ("Nobody sings.", "There is no voice.", "Nobody sings: it is instrumental.", "There is no singer."),
    "instruments": (
        "The instruments are {x}.", "You can hear {x}.", "The line-up is {x}.", "The clip features {x}.",
        "One hears {x}.",
    ),
    "lead_instrument": (
        "The lead instrument is {the_x}.", "The melody is played on {the_x}.", "{A_x} takes the lead.",
        "{A_x} carries the tune.", "In the foreground is {a_x}.",
    ),
    "lead_family": (
        "The lead belongs to the {x} family.", "The melody is played by the {x} family.", "It is of the {x} family.",
    ),
    "drums yes": (
        "Yes, there are drums.", "Yes, drums keep the beat.", "Yes, a drum kit plays along.",
        "Yes, you can hear drums.",
    ),
    "drums no": (
        "No, there are no drums.", "No, it is played without drums.", "No, there is no percussion.",
        "No, there is no drum kit.",
    ),
    "bass some": (
        "Yes, the bass is {a_x}.", "The bass line is played on {a_x}.", "It is {a_x}.", "You can hear {a_x}.",
    ),
    "bass none": ("No, there is no bass.", "There is no bass.", "No bass can be heard.", "There is no bass line."),
    "electronic": ("The sound is {x}.", "It is {x}.", "The instruments are {x}.", "I would call the sound {x}."),
    "music yes": ("Yes, there is music.", "Yes, this is music.", "Yes, music is playing."),
    "music no": ("No, there is no music.", "No, no music is playing.", "No, this is no music."),
    "unknown": ("I am not sure.", "I cannot say that from the sound.", "I am not sure: the sound does not tell."),
    "no music": ("I hear no music.", "There is no music to speak of.", "No music is heard."),
}  # fmt: skip

TEMPO_WORDS = {"slow": ("slow", "unhurried"), "medium": ("medium-paced", "moderate"), "fast": ("fast", "quick")}

OPENINGS = (
    "{A_kind}.", "This is {a_kind}.", "You are listening to {a_kind}.", "The clip is {a_kind}.",
)
LEADS = ("{A_lead} plays the melody.", "{A_lead} takes the lead.", "The melody lies with {the_lead}.")
LINE_UPS = ("You can hear {instruments}.", "The instruments are {instruments}.", "One hears {instruments}.")
RHYTHMS = {
    (True, True): ("{A_bass} and drums keep the beat.", "Drums and {a_bass} hold the rhythm together."),
    (True, False): ("{A_bass} marks the beat, and there are no drums.", "There are no drums, only {a_bass} below."),
    (False, True): ("Drums keep the beat, and there is no bass.", "The drums play on, though there is no bass."),
    (False, False): ("There are no drums and there is no bass.", "It does without drums and without bass."),
    (None, True): ("Drums keep the beat.", "There are drums."),
    (None, False): ("There are no drums.", "It does without drums."),
}
VOICES = {
    "female": ("A woman sings.", "The singer is a woman."), "male": ("A man sings.", "The singer is a man."),
    "none": ("Nobody sings.", "It is instrumental."),
}  # fmt: skip
MOODS = ("The mood is {mood}.", "It sounds {mood}.", "The atmosphere is {mood}.")
METRES = ("It is in {metre} time.", "The metre is {metre}.")

USES = (
    "It would suit {place}: the {mood} mood {effect}.",
    "It could accompany {place}, because its {mood} sound {effect}.",
    "Someone might play it for {place}. The {mood} mood {effect}.",
    "It goes well with {place}, since its mood {effect}.",
)  # fmt: skip
