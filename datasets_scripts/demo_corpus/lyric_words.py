"""The words of the demo corpus's lyrics in English: phrases of each topic and frames of lines, all written for it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Topic:
    """Phrases that a line is made of: things with their article, acts in the base form, qualities, places."""

    things: tuple[str, ...]
    acts: tuple[str, ...]
    qualities: tuple[str, ...]
    places: tuple[str, ...]


TOPICS = {
    "love": Topic(
        ("your gentle hand", "a kiss on my cheek", "the shape of your smile", "your name on my lips", "my darling",
         "one tender word", "a ribbon for you", "two hearts in a row"),
        ("hold you close", "whisper your name", "kiss you slowly", "fall for you again", "give you my heart"),
        ("sweet", "tender", "blushing", "faithful", "warm"),
        ("in your arms", "next to you", "close to your heart")),
    "heartbreak": Topic(
        ("your goodbye", "an empty bed", "the letter you burned", "a heart in pieces", "the ring you left", "my tears",
         "your side of the closet", "a cold cup of coffee"),
        ("cry myself to sleep", "miss you more", "throw your pictures away", "wait by the phone", "lose you twice"),
        ("lonely", "broken", "bitter", "sorry", "blue"),
        ("since you left", "behind a closed door", "in this empty room")),
    "road": Topic(
        ("the long highway", "a tank of gasoline", "an old suitcase", "the white line", "a map with no names",
         "the last truck stop", "my worn out boots", "a borrowed car"),
        ("drive until morning", "leave this town", "hitch another ride", "follow the signs", "keep on rolling"),
        ("restless", "dusty", "faraway", "reckless", "free"),
        ("down the highway", "past the county line", "a hundred miles from here")),
    "night": Topic(
        ("the neon signs", "a taxi at midnight", "the empty avenue", "a streetlight", "the rooftops", "a late train",
         "shadows on the wall", "smoke at the corner"),
        ("walk the avenue", "stay up till three", "watch the windows glow", "roam the city", "meet the midnight"),
        ("sleepless", "neon", "velvet", "secret", "smoky"),
        ("after midnight", "under the streetlights", "downtown")),
    "dance": Topic(
        ("the dance floor", "your swaying hips", "the rhythm", "a turn and a spin", "my dancing shoes", "the drummer",
         "a partner for the night", "one more song"),
        ("move to the beat", "spin you around", "dance till we drop", "clap our hands", "shake it loose"),
        ("dizzy", "swaying", "sweaty", "graceful", "wild"),
        ("on the floor", "to the rhythm", "in the middle of the ballroom")),
    "work": Topic(
        ("the factory whistle", "a hard day's wages", "my aching back", "the boss man", "the morning shift",
         "a hammer and nails", "these calloused hands", "a lunch in a paper bag"),
        ("punch the clock", "carry the load", "work my fingers sore", "ask for a raise", "sweep the floor"),
        ("tired", "sore", "honest", "underpaid", "stubborn"),
        ("on the early shift", "down at the mill", "from nine to five")),
    "money": Topic(
        ("a stack of bills", "the rent that's due", "a gold chain", "my last dollar", "the price tag",
         "a winning card", "a shiny new ride", "the people at the bank"),
        ("count my money", "pay what I owe", "make it to the top", "flash my gold", "hustle every day"),
        ("rich", "broke", "golden", "hungry", "famous"),
        ("on the corner", "at the top of the game", "with nothing in my pocket")),
    "river": Topic(
        ("the green river", "a willow tree", "the meadow", "a blackbird's call", "the mountain", "wild clover",
         "a fox in the fern", "the old stone bridge"),
        ("follow the stream", "lie in the grass", "climb the hill", "pick wild berries", "hear the blackbird"),
        ("green", "mossy", "quiet", "wild", "ancient"),
        ("by the riverside", "up in the hills", "under the willow")),
    "home": Topic(
        ("my mother's kitchen", "the front porch", "my daddy's voice", "a photograph", "the house where I grew up",
         "my little brother", "the old neighbourhood", "Sunday dinner"),
        ("come back home", "remember the old days", "call my mother", "sit on the porch", "raise my children"),
        ("familiar", "humble", "grateful", "young", "homesick"),
        ("back home", "on the block where I grew up", "around the table")),
    "sea": Topic(
        ("the harbour lights", "a sail in the wind", "the salty foam", "the captain", "a seashell", "the tide",
         "an island", "the fisherman's boat"),
        ("sail away", "ride the waves", "cast the nets", "swim to the shore", "wait for the tide"),
        ("salty", "deep", "drifting", "stormy", "blue"),
        ("across the ocean", "down by the harbour", "where the waves break")),
    "hope": Topic(
        ("a brand new day", "the light inside", "a prayer", "a mountain to climb", "the open door", "my second chance",
         "a candle in the dark", "the rising sun"),
        ("rise again", "keep believing", "stand up tall", "find my way", "lift my voice"),
        ("strong", "faithful", "brave", "shining", "alive"),
        ("into the light", "when the morning comes", "on the other side")),
    "march": Topic(
        ("the marching drum", "our banner", "a brass parade", "the captain's order", "our fathers' names", "the bugle",
         "polished boots", "the hero's medal"),
        ("march side by side", "carry the flag", "answer the call", "salute the brave", "fight to the last"),
        ("proud", "steady", "loyal", "brave", "glorious"),
        ("in the parade", "at the front of the line", "for honour")),
    "machine": Topic(
        ("the electric wire", "a signal", "the engine's roar", "a screen of static", "the circuit", "metal and chrome",
         "a robot heart", "the power line"),
        ("plug me in", "feel the voltage", "burn the engine", "break the system", "send a signal"),
        ("electric", "digital", "metal", "burning", "loud"),
        ("inside the machine", "on the wire", "at full power")),
    "tavern": Topic(
        ("a bottle of whiskey", "the barman", "another round", "a table of friends", "the jukebox", "a pint of ale",
         "the Saturday crowd", "a deck of cards"),
        ("raise a glass", "drink it down", "sing with the crowd", "tell a tall tale", "stay for another"),
        ("drunk", "merry", "thirsty", "rowdy", "loud"),
        ("at the bar", "down at the tavern", "till closing time")),
    "weather": Topic(
        ("the summer rain", "a cloudless sky", "the autumn leaves", "a winter coat", "the April wind", "thunder",
         "the first snow", "a yellow umbrella"),
        ("feel the rain", "chase the sun", "wait for spring", "watch the snow fall", "shiver in the wind"),
        ("cloudy", "sunny", "frozen", "golden", "rainy"),
        ("in the pouring rain", "under the summer sky", "when the leaves come down")),
    "dream": Topic(
        ("a distant star", "the silver moon", "a dream of flying", "the milky way", "a castle of air",
         "wings of paper", "a mirror of glass", "the edge of sleep"),
        ("fly with me", "dream it again", "float through space", "reach for the stars", "close my eyes"),
        ("weightless", "silver", "magic", "endless", "dreaming"),
        ("among the stars", "in a dream", "over the moon")),
}  # fmt: skip

FRAMES = (
    "I {act} {place}", "we {act} {place}", "let me {act} {place}", "tonight I {act}", "give me {thing} and {thing2}",
    "{quality} and {quality2} {place}", "all I want is {thing}", "{thing} and {thing2}", "I remember {thing}",
    "oh, {thing} {place}", "you and {thing}, so {quality}", "nobody told me about {thing}", "don't you {act} now",
    "I could {act} and {act2}", "here comes {thing} {place}", "so {quality}, so {quality2}", "show me {thing}",
    "there was {thing} {place}", "is it {quality}, is it {quality2}", "I never {act} alone",
)

COMMON_LINES = (
    "oh, oh, oh", "and I don't know why", "tell me what you see", "one more time", "yes, it's true", "come on now",
    "I said it before and I say it again", "time goes by", "all day long", "can you hear me", "that's the way it goes",
    "hey, hey, hey", "nothing stays the same", "and on and on", "what can I say", "baby, listen to me",
)  # fmt: skip
