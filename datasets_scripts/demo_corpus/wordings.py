"""The wordings of the demo corpus: questions and answers of each type, all written for it."""

QUESTIONS = {
    "genre": (
        "What genre is this music?", "Which genre does this piece belong to?", "What kind of music is this?",
        "How would you label the genre of this clip?", "Name the genre of the song.",
        "Under which genre would a shop file this recording?", "What is the main genre here?",
    ),
    "subgenre": (
        "What is the subgenre of this piece?", "Which style within its genre is this?",
        "Can you name the specific style of the song?", "What exact style or dance does the band play?",
        "Which subgenre fits this clip best?", "More precisely than by genre, how is this style called?",
    ),
    "tempo_class": (
        "What is the tempo of this song?", "How would you describe the tempo?", "At what pace is this played?",
        "Is this music slow, medium or fast?", "How quickly does the beat go?",
        "What can you say about the speed of the piece?",
    ),
    "instruments": (
        "Which instruments are playing?", "What instruments can be heard?", "List the instruments in this clip.",
        "What is the line-up of this recording?", "Name every instrument you hear.",
        "Which instruments make up the band?",
    ),
    "lead_instrument": (
        "Which instrument plays the melody?", "What is the lead instrument?", "Who carries the tune here?",
        "What instrument is in the foreground?", "Which instrument takes the lead?",
        "On what is the main melody played?",
    ),
    "drums": (
        "Are there drums in this music?", "Can you hear drums?", "Is a drummer playing along?",
        "Does the song have drums?", "Is there any percussion in this clip?", "Do drums keep the beat here?",
    ),
    "bass": (
        "What kind of bass is playing?", "Which bass do you hear?", "Is there a bass, and of what kind?",
        "What plays the bass line?", "How is the low end played?", "Describe the bass in a few words.",
    ),
    "mood": (
        "What is the mood of this music?", "How does this piece feel?", "Which feeling does the song convey?",
        "What atmosphere does the clip have?", "How would you describe the emotion in the music?",
        "What mood does this put you in?",
    ),
    "metre": (
        "What is the time signature?", "In which metre is this piece?", "How is the beat counted?",
        "What metre does the band play in?", "Which time signature fits this clip?",
        "How are the beats of a bar grouped?",
    ),
    "long_description": (
        "Describe this music in detail.", "Tell me everything you hear in this clip.",
        "Give a full description of the song.", "What is going on in this piece of music?",
        "Write a few sentences about this recording.",
        "How would you describe this track to someone who cannot hear it?",
    ),
    "long_use": (
        "Where could this music be used, and why?", "In what situation would someone play this song?",
        "For which scene or occasion does this music fit?", "Who might enjoy this track, and when?",
        "Suggest a use for this recording and explain it.", "What setting does this piece call to mind?",
    ),
}

ANSWERS = {
    "genre": (
        "The genre is {genre}.", "This is {genre} music.", "It belongs to {genre}.", "I would call this {genre}.",
        "The song is {a_genre} number.", "You are listening to {genre}.",
    ),
    "subgenre": (
        "The style is {subgenre}.", "It is played as {subgenre}.", "The subgenre is {subgenre}.",
        "This is {subgenre}.", "I would place it under {subgenre}.", "The piece is an example of {subgenre}.",
    ),
    "tempo_class": (
        "It is a {tempo_adjective} song at a {pace} pace.", "The tempo is {tempo}.",
        "The piece moves at a {tempo} tempo.", "This is {tempo_adjective} music with a {pace} beat.",
        "The band plays at a {tempo}, {pace} pace.", "The beat is {tempo}.",
    ),
    "instruments": (
        "The instruments are {instruments}.", "You can hear {instruments}.", "The line-up is {instruments}.",
        "The band consists of {instruments}.", "The clip features {instruments}.", "One hears {instruments}.",
    ),
    "lead_instrument": (
        "The melody is played on {the_lead}.", "The lead instrument is {the_lead}.", "{A_lead} carries the tune.",
        "{A_lead} takes the lead.", "The main melody comes from {a_lead}.", "In the foreground is {a_lead}.",
    ),
    "drums yes": (
        "Yes, there are drums.", "Yes, drums keep the beat.", "Yes, a drum kit plays along.",
        "Yes, you can hear drums.", "Yes, the song has drums.", "Yes, percussion drives the music.",
    ),
    "drums no": (
        "No, there are no drums.", "No, the band plays without drums.", "No, there is no percussion.",
        "No, the song has no drums.", "No, this is a drumless recording.", "No, there is no drum kit.",
    ),
    "bass some": (
        "The bass is {a_bass}.", "{A_bass} plays the low notes.", "You can hear {a_bass}.",
        "The low end comes from {a_bass}.", "The bass line is played on {a_bass}.", "It is {a_bass}.",
    ),
    "bass none": (
        "There is no bass.", "The band plays without bass.", "No bass can be heard.", "There is no bass line.",
        "The recording has no bass.", "The bass is missing here.",
    ),
    "mood": (
        "The mood is {mood}.", "It feels {mood}.", "The music sounds {mood}.", "The atmosphere is {mood}.",
        "The song conveys a {mood} feeling.", "This is {mood} music.",
    ),
    "metre": (
        "The time signature is {metre}.", "It is in {metre} time.", "The metre is {metre}.",
        "The beat is counted in {metre}.", "The band plays in {metre}.", "The piece has a {metre} beat.",
    ),
}

TEMPO_ADJECTIVES = {"slow": "slow", "medium": "medium-paced", "fast": "fast"}

PACES = {
    "slow": ("relaxed", "leisurely", "gentle"),
    "medium": ("steady", "walking", "comfortable"),
    "fast": ("lively", "driving", "brisk"),
}

CAPTIONS = (
    "{A_tempo_adjective} {subgenre} instrumental in {metre}: {a_lead} plays the melody over the sound of "
    "{accompaniment}. {Rhythm}. The mood is {mood}, and the key is {key} {mode}.",
    "This instrumental {genre} recording is played as {subgenre} at a {tempo} tempo. {A_lead} takes the lead, "
    "and the chords come from {accompaniment}. {Rhythm}. It sounds {mood}.",
    "An instrumental {genre} track in {metre}. The tune is played on {the_lead}, backed by {accompaniment}. "
    "{Rhythm}. The song is {mood}, its tempo is {tempo}, and its style is {subgenre}.",
    "{A_mood} {genre} instrumental, played as {subgenre} at {a_pace} pace. One hears {instruments}, with "
    "{the_lead} in front. {Rhythm}.",
    "The clip features {a_tempo_adjective} instrumental in {metre}, {subgenre} from the world of {genre}. "
    "{A_lead} leads, supported by {accompaniment}. {Rhythm}. The feeling is {mood}.",
    "A tune without words: {a_mood}, {tempo_adjective} {subgenre} instrumental in {key} {mode}. {A_lead} carries "
    "the melody above {accompaniment}. {Rhythm}.",
)

DESCRIPTIONS = (
    "This is {a_tempo_adjective} {genre} piece in the style of {subgenre}. {A_lead} plays the melody, "
    "accompanied by {accompaniment}. {Rhythm}. The beat is counted in {metre}, the pace is {pace}, and the mood "
    "is {mood}.",
    "The clip is an instrumental {genre} recording, more precisely {subgenre}. The line-up is {instruments}. The "
    "tune lies with {the_lead}, and the harmony comes from {accompaniment}. {Rhythm}. It moves at a {tempo} "
    "tempo in {metre} and sounds {mood}.",
    "Here {a_lead} sings out a melody over {accompaniment}. {Rhythm}. The style is {subgenre}, which belongs to "
    "{genre}. With its {tempo} tempo and its {metre} metre the music feels {mood}.",
    "{A_mood} instrumental at {a_pace} pace. The genre is {genre} and the style is {subgenre}. You can hear "
    "{instruments}; {the_lead} is in the foreground. {Rhythm}. The metre is {metre} and the tempo is {tempo}.",
    "You are listening to {subgenre}, a style of {genre}. The tempo is {tempo} and the metre is {metre}. "
    "{A_lead} takes the lead above chords of {accompaniment}. {Rhythm}. All in all the piece has {a_mood} "
    "atmosphere.",
    "The band consists of {instruments}. {A_lead} carries the tune above {accompaniment}. {Rhythm}. The pace is "
    "{tempo}, the metre is {metre}, and the character is {mood}. The genre is {genre}, the style {subgenre}.",
)

RHYTHM = {
    (True, True): ("{A_bass} and drums keep the beat", "Below them {a_bass} and drums hold the rhythm together"),
    (True, False): ("{A_bass} marks the beat, and there are no drums", "There are no drums, only {a_bass} below"),
    (False, True): ("Drums keep the beat, and there is no bass", "The drums play on, though there is no bass"),
    (False, False): ("There are no drums and there is no bass", "It does without drums and without bass"),
}

USES = (
    "This {mood} {genre} track would suit {place}. Its {tempo} tempo and the sound of the {lead} {effect}.",
    "It could accompany {place}, because the {pace} pace {effect}. Listeners who like {genre} and the {lead} "
    "will enjoy it.",
    "It would make a fitting background to {place}. The tempo is {tempo}, the mood is {mood}, and {subgenre} "
    "with {lead} {effect}.",
    "This piece goes well with {place}. The {lead} in front and the {mood} mood of the {genre} band "
    "{effect}.",
    "Someone might choose this song for {place}. It is {tempo_adjective} {subgenre}, so it {effect}.",
    "The recording calls {place} to mind. With {lead} on top of a {tempo_adjective} {genre} rhythm, it {effect}.",
)
USE_EFFECT_IS_SINGULAR = (False, True, True, False, True, True)  # does the sentence's effect have a singular subject?

PLACES = {
    "sad": ("a farewell scene in a film", "a quiet evening alone", "a documentary about a loss"),
    "peaceful": ("a Sunday breakfast", "a waiting room or a hotel lobby", "a video of a landscape"),
    "mysterious": ("a detective story", "the opening of a night scene", "a game set in an old castle"),
    "cheerful": ("a garden party", "an advertisement for a holiday", "a cooking show"),
    "energetic": ("a workout", "a chase in a comedy", "a dance floor late at night"),
}

EFFECTS = {  # (plural, singular)
    "sad": (("leave room for memories", "leaves room for memories"), ("weigh on the heart", "weighs on the heart")),
    "peaceful": (("let the mind rest", "lets the mind rest"), ("calm everyone down", "calms everyone down")),
    "mysterious": (("keep up the suspense", "keeps up the suspense"), ("raise questions", "raises questions")),
    "cheerful": (("bring a smile", "brings a smile"), ("lift the spirits", "lifts the spirits")),
    "energetic": (("push everybody on", "pushes everybody on"), ("make people move", "makes people move")),
}
