"""The terms of closed questions with their synonyms: question type → canonical answer → other wordings of it."""

# Of published data sets; a name of another type in place of terms stands for that type's.
COMMON: dict[str, dict[str, list[str]] | str] = {
    "genre": {
        "rock": ["rock music", "rock and roll", "rock n roll", "heavy metal"], "pop": ["pop music"], "jazz": ["jazzy"],
        "classical": ["classical music", "orchestral music"],
        "electronic": ["electronic music", "electronica", "edm", "electronic dance music"],
        "hip hop": ["rap", "hiphop"], "country": ["country music"], "folk": ["folk music", "folksy"],
        "blues": ["bluesy"], "reggae": [], "r&b": ["rnb", "rhythm and blues", "r and b"], "funk": ["funky"],
        "latin": ["latin music"], "ambient": ["ambient music"], "gospel": ["gospel music"], "opera": ["operatic"],
        "new age": [], "soundtrack": ["film music", "movie soundtrack"], "world": ["world music"],
        "march": ["marching music"], "christmas": ["christmas music", "christmas carol"], "lullaby": [],
        "metal": ["metal music"], "soul": ["soul music"], "ballroom": ["ballroom dance", "ballroom music"],
    },
    "subgenre": {
        "heavy metal": ["metal"], "soul": ["soul music"], "disco": [], "punk": ["punk rock"],
        "house": ["house music"], "techno": [], "trance": [], "dubstep": [], "trap": [], "bluegrass": [], "ska": [],
        "salsa": [], "tango": [], "samba": [], "swing": [], "grunge": [], "flamenco": [], "polka": [], "ragtime": [],
        "drum and bass": ["drum n bass", "dnb", "d&b"], "bossa nova": ["bossanova"], "indie rock": [],
        "soft rock": [], "pop rock": [], "alternative rock": ["alt rock"], "hard rock": [], "boogie woogie": [],
        "synth-pop": ["synthpop"], "lo-fi": ["lofi", "lo-fi hip hop"], "afrobeat": [],
    },
    "tempo_class": {
        "slow": ["slow tempo", "slow paced", "slowly", "very slow", "down tempo", "downtempo"],
        "medium": [
            "medium tempo", "mid tempo", "midtempo", "moderate", "moderate tempo", "moderately paced", "medium paced",
            "andante",
        ],
        "fast": ["fast tempo", "fast paced", "uptempo", "up tempo", "very fast", "quick", "rapid"],
    },
    "instruments": {
        "piano": ["grand piano", "acoustic piano", "upright piano"],
        "electric piano": ["rhodes", "e-piano", "wurlitzer"], "keyboard": ["keys"],
        "organ": ["hammond organ", "church organ", "pipe organ", "electric organ"], "harpsichord": [],
        "accordion": [], "synthesizer": ["synth", "synthesiser", "synth pad", "synth lead", "synth keys"],
        "guitar": [],
        "acoustic guitar": [
            "nylon guitar", "nylon string guitar", "steel string guitar", "classical guitar",
            "strummed acoustic guitar",
        ],
        "electric guitar": [
            "e-guitar", "distorted guitar", "distorted electric guitar", "overdriven guitar", "clean electric guitar",
        ],
        "bass": ["bass guitar", "e-bass", "electric bass", "bass line", "bassline"],
        "double bass": ["upright bass", "acoustic bass", "contrabass"], "synth bass": ["bass synth"],
        "drums": ["drum", "drum kit", "drum set", "drumset", "acoustic drums", "percussive drums", "drum beat"],
        "electronic drums": ["drum machine", "digital drums", "programmed drums", "808", "electronic drum"],
        "percussion": ["percussive elements", "hand percussion"], "congas": ["conga"], "bongos": ["bongo"],
        "tambourine": [], "shaker": ["maracas"], "djembe": [], "tabla": [], "cajon": [], "hi-hat": ["hihat"],
        "snare": ["snare drum"], "kick": ["kick drum", "bass drum"], "cymbal": ["crash cymbal", "ride cymbal"],
        "claps": ["hand claps", "handclaps", "clapping"], "timpani": ["kettledrums"], "cowbell": [], "triangle": [],
        "strings": ["string section", "string ensemble", "orchestral strings"], "violin": ["fiddle"], "viola": [],
        "cello": [], "harp": [], "brass": ["brass section", "horns", "horn section"], "trumpet": [], "trombone": [],
        "french horn": [], "tuba": [],
        "saxophone": ["sax", "alto sax", "tenor sax", "alto saxophone", "tenor saxophone", "soprano sax"],
        "flute": ["flutes"], "clarinet": [], "oboe": [], "bassoon": [], "recorder": [],
        "pan flute": ["panpipes", "pan pipes"], "bagpipes": ["bagpipe"], "harmonica": ["mouth organ"],
        "woodwinds": ["woodwind", "woodwind section"], "orchestra": ["orchestral"],
        "choir": ["choral", "chorus vocals"], "banjo": [], "mandolin": [], "ukulele": ["uke"], "sitar": [],
        "koto": [], "shamisen": [], "erhu": [], "oud": [], "bouzouki": [], "balalaika": [], "lute": [],
        "steel drums": ["steel pan", "steelpan", "steel drum"], "marimba": [], "xylophone": [],
        "vibraphone": ["vibes"], "glockenspiel": [], "celesta": [], "music box": [],
        "bells": ["bell", "tubular bells", "sleigh bells"], "didgeridoo": [], "theremin": [],
        "turntables": ["turntable", "scratching", "dj scratches"], "sampler": [],
        "vocals": [
            "vocal", "voice", "voices", "singing", "singer", "vocalist", "male vocal", "female vocal", "male voice",
            "female voice", "male singer", "female singer",
        ],
    },
    "lead_instrument": "instruments",
    "drums": {
        "drums": ["yes", "drum beat", "drum set", "drum machine"], "no drums": ["no"],
    },
    "bass": {
        "no bass": ["no"], "electric bass": ["e-bass"], "upright bass": ["contrabass"], "synth bass": ["bass synth"],
    },
    "mood": {
        "happy": ["cheerful", "joyful", "joyous", "upbeat", "merry", "glad"],
        "sad": ["sorrowful", "melancholic", "melancholy", "mournful", "gloomy"],
        "calm": ["relaxing", "relaxed", "peaceful", "soothing", "calming", "tranquil", "serene", "chill", "mellow"],
        "energetic": ["lively", "high energy", "full of energy", "vigorous"], "romantic": ["loving"],
        "dark": ["ominous", "sinister", "eerie", "spooky", "haunting"],
        "tense": ["suspenseful", "tension", "anxious", "nervous"], "aggressive": ["angry", "intense"],
        "dreamy": ["ethereal", "atmospheric"], "epic": ["majestic", "heroic"],
        "playful": ["fun", "funny", "whimsical", "quirky"], "passionate": [], "emotional": ["sentimental"],
        "nostalgic": ["vintage"], "groovy": ["danceable"], "sensual": ["sexy", "seductive"],
        "inspiring": ["uplifting", "hopeful", "motivational"], "meditative": ["spiritual", "contemplative"],
        "mysterious": [], "soulful": [],
    },
    "metre": {
        "4/4": ["four four", "common time", "four quarter", "four beats", "quadruple"],
        "3/4": ["three four", "waltz time", "three quarter", "three beats", "triple", "triple metre", "triple meter"],
        "6/8": ["six eight"], "2/4": ["two four", "two beats", "duple"], "12/8": ["twelve eight"],
        "5/4": ["five four", "five beats"], "7/8": ["seven eight"],
    },
    "energy": {
        "calm": ["low energy", "gentle", "relaxed"], "moderate": ["medium energy"],
        "driving": ["high energy", "energetic", "powerful"],
    },
    "vocals": {
        "vocals": ["yes", "singer", "singing", "sing", "voice", "human voice", "sung", "vocalist"],
        "no vocals": ["no", "no singer", "no singing", "no voice", "no human voice", "without singing", "instrumental",
                      "nobody"],
    },
    "voice": {
        "female": ["woman", "women", "female voice", "female singer", "female vocals", "female vocalist", "woman sing",
                   "woman singing", "soprano"],
        "male": ["man", "men", "male voice", "male singer", "male vocals", "male vocalist", "man sing", "man singing",
                 "tenor"],
        "no voice": ["nobody", "no one", "no singer", "no vocals", "instrumental", "none"],
    },
    "electronic": {
        "electronic": ["synthetic", "electronically", "electronic music"],
        "acoustic": ["natural", "acoustic music", "unplugged"],
    },
    "music": {"music": ["yes"], "no music": ["no"]},
    "lead_family": {
        "keyboard": ["keyboards", "piano", "keys"], "organ": ["organs"],
        "accordion": ["accordions", "free reed", "harmonica"], "bass": ["basses"],
        "mallet percussion": ["mallets", "mallet", "tuned percussion", "chromatic percussion", "vibraphone",
                              "marimba"],
        "guitar": ["guitars"], "plucked strings": ["plucked", "plucked string", "harp", "banjo"],
        "strings": ["string", "bowed strings", "bowed string", "violin", "bowed"],
        "brass": ["trumpet", "trombone", "horn"],
        "reed": ["reeds", "saxophone", "sax", "clarinet", "oboe", "woodwind", "woodwinds"],
        "flute": ["flutes", "pipe", "pipes", "whistle"],
        "synthesizer": ["synth", "synths", "synthesizers", "synth lead"], "voice": ["choir", "vocal"],
    },
    # Whether one instrument plays.
    **{
        name.replace(" ", "_"): {name: ["yes", *others], f"no {name}": ["no", *(f"no {other}" for other in others)]}
        for name, others in {
            "piano": (), "organ": (), "accordion": (), "guitar": (), "acoustic guitar": (), "electric guitar": (),
            "violin": ("fiddle",), "strings": ("string section",), "brass": ("brass section",), "trumpet": (),
            "saxophone": ("sax",), "flute": (), "clarinet": (), "synthesizer": ("synth", "synthesiser"), "harp": (),
        }.items()
    },
}  # fmt: skip

# Of the demo corpus, which renames some canonical answers.
DEMO: dict[str, dict[str, list[str]] | str] = {
    "genre": {
        "jazz": [], "blues": [], "rock": [], "country": [], "folk": [], "latin": [], "ballroom": ["ballroom dance"],
        "electronic": ["electronica"], "funk": [], "hip-hop": ["hip hop"], "march": ["marching music"], "pop": [],
    },
    "subgenre": {
        "swing": [], "jazz waltz": [], "bebop": ["be-bop"], "slow blues": [], "six-eight blues": [],
        "boogie shuffle": [], "classic rock": [], "rock waltz": [], "heavy metal": [], "country waltz": [],
        "bluegrass": [], "western swing": [], "folk rock": [], "folk waltz": [], "jig": [], "samba": [],
        "latin waltz": [], "bossa nova": [], "tango": [], "viennese waltz": [], "foxtrot": ["fox-trot"], "trance": [],
        "house": [], "techno": [], "street funk": [], "fusion funk": [], "soul": [], "boom bap": [],
        "trip hop": ["trip-hop"], "electro rap": [], "six-eight march": [], "military march": [], "dixie march": [],
        "disco": [], "pop ballad": [], "pop waltz": [],
    },
    "tempo_class": {
        "slow": ["unhurried"], "medium": ["moderate"], "fast": ["quick"],
    },
    "instruments": {
        "piano": [], "acoustic guitar": [], "electric guitar": [], "organ": [], "accordion": [],
        "strings": ["string section"], "brass": ["brass section"], "violin": ["fiddle"], "flute": [], "trumpet": [],
        "saxophone": ["sax"], "vibraphone": ["vibes"], "synthesizer": ["synth", "synthesiser"], "bass": [],
        "drums": ["drum kit"],
    },
    "lead_instrument": {
        "piano": [], "electric guitar": [], "violin": ["fiddle"], "flute": [], "trumpet": [], "saxophone": ["sax"],
        "vibraphone": ["vibes"], "synthesizer": ["synth", "synthesiser"],
    },
    "drums": {
        "drums": ["drum kit", "percussion"],
        "no drums": ["without drums", "no drum kit", "no percussion", "drumless"],
    },
    "bass": {
        "upright bass": ["double bass", "acoustic bass"], "electric bass": ["bass guitar"],
        "synth bass": ["synthesizer bass", "bass synthesizer"],
        "no bass": ["without bass", "bass is missing", "no bass line"],
    },
    "mood": {
        "sad": ["melancholic"], "peaceful": ["calm"], "mysterious": [], "cheerful": ["happy"],
        "energetic": ["exciting"],
    },
    "metre": {
        "4/4": ["four-four"], "3/4": ["three-four"], "6/8": ["six-eight"],
    },
}  # fmt: skip
