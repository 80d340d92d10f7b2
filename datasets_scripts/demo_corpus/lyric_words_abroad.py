"""The words of the demo corpus's Spanish and German lyrics: things of each topic and frames of lines."""

SPANISH = {
    "love": ("tu mano en la mía", "un beso de miel", "tu sonrisa", "mi corazón", "una palabra dulce"),
    "heartbreak": ("tu despedida", "la cama vacía", "una carta rota", "el llanto", "tu ausencia"),
    "road": ("el camino largo", "una vieja maleta", "la carretera", "el polvo del viaje", "un mapa sin nombres"),
    "night": ("la medianoche", "la calle vacía", "un farol", "la sombra en la pared", "el último tren"),
    "dance": ("el baile", "tu cintura", "el ritmo", "una vuelta más", "el tambor"),
    "work": ("el trabajo", "la fábrica", "el martillo", "la espalda cansada", "el turno de mañana"),
    "money": ("el dinero", "una cadena de oro", "la última moneda", "el precio", "la fama"),
    "river": ("el río verde", "la montaña", "un sauce", "la flor del campo", "el canto del mirlo"),
    "home": ("la cocina de mi madre", "la casa vieja", "mi hermano", "el barrio", "la mesa del domingo"),
    "sea": ("el mar azul", "la ola", "un barco de vela", "el puerto", "la arena"),
    "hope": ("un nuevo día", "la luz del alba", "una vela encendida", "mi fe", "la puerta abierta"),
    "march": ("la bandera", "el tambor de guerra", "el desfile", "la corneta", "el honor"),
    "machine": ("el motor", "la señal", "un cable eléctrico", "el metal", "la máquina"),
    "tavern": ("el vino", "la taberna", "otra ronda", "los amigos", "la guitarra vieja"),
    "weather": ("la lluvia", "el viento de abril", "la nieve", "un cielo sin nubes", "el otoño"),
    "dream": ("la luna de plata", "un sueño", "las estrellas", "el borde del sueño", "unas alas de papel"),
}

SPANISH_FRAMES = (
    "canto por {thing}", "sin {thing} no hay nada", "{thing} y {thing2}", "no me olvido nunca: {thing}",
    "dime dónde está {thing}", "quiero {thing} esta noche", "ay, {thing}, ay, {thing2}", "conmigo va {thing}",
    "todo lo que tengo es {thing}", "ya no veo {thing}", "entre {thing} y {thing2}", "y después, {thing}",
)  # fmt: skip

SPANISH_COMMON = (
    "ay, ay, ay", "y no sé por qué", "dime que sí", "una vez más", "así es la vida", "escúchame bien",
)

GERMAN = {
    "love": ("deine Hand", "ein Kuss", "dein Lächeln", "mein Herz", "ein zärtliches Wort"),
    "heartbreak": ("dein Abschied", "ein leeres Bett", "der verbrannte Brief", "meine Träne", "ein kalter Kaffee"),
    "road": ("die lange Straße", "ein alter Koffer", "der letzte Wagen", "die Ferne", "der Staub"),
    "night": ("die Mitternacht", "die leere Gasse", "das Neonlicht", "ein Schatten an der Wand", "der späte Zug"),
    "dance": ("der Tanz", "der Rhythmus", "die Trommel", "noch eine Drehung", "ein Lied mehr"),
    "work": ("die Fabrik", "der müde Rücken", "die Frühschicht", "der Hammer", "der Lohn"),
    "money": ("das Geld", "eine goldene Kette", "der letzte Schein", "die Miete", "der Ruhm"),
    "river": ("der grüne Fluss", "die Weide", "die Wiese", "der Berg", "die alte Brücke"),
    "home": ("die Küche meiner Mutter", "das alte Haus", "mein kleiner Bruder", "der Sonntag", "die Heimat"),
    "sea": ("das weite Meer", "die Welle", "der Hafen", "ein Segel im Wind", "die Insel"),
    "hope": ("ein neuer Tag", "das Licht", "ein Gebet", "die offene Tür", "die Sonne"),
    "march": ("die Fahne", "der Marsch", "das Horn", "die Parade", "die Ehre"),
    "machine": ("der Motor", "das Signal", "der Strom", "die Maschine", "das kalte Metall"),
    "tavern": ("das volle Glas", "der Wirt", "die nächste Runde", "der Wein", "das Wirtshaus"),
    "weather": ("der Sommerregen", "der erste Schnee", "der Wind im April", "das Herbstlaub", "der Donner"),
    "dream": ("der silberne Mond", "ein ferner Stern", "der Traum", "ein Schloss aus Luft", "die Milchstraße"),
}

GERMAN_FRAMES = (
    "da ist {thing}", "{thing} und {thing2}", "wo ist nur {thing}", "nichts bleibt als {thing}",
    "heute singt {thing} mit mir", "und wieder ruft {thing}", "nicht {thing}, nicht {thing2}",
    "mir gehört {thing} ganz allein", "es kommt {thing} und geht", "was wäre ich ohne dich, und {thing} schweigt",
    "einmal noch {thing}", "so schön ist {thing}",
)  # fmt: skip

GERMAN_COMMON = (
    "und ich weiß nicht warum", "noch einmal", "so ist das Leben", "hörst du mich", "die Zeit vergeht",
    "hey, hey, hey",
)
