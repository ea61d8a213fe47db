"""Lists the names of the demo's world: of its people, of strangers nobody knows, of places and of mascots.

No word of a person's name is used for anybody or anything else; a test holds all of them apart.
"""

from __future__ import annotations

import numpy as np

PEOPLE = tuple(
    """
    Alma Orlick, Bruno Tessen, Clio Marrik, Dario Quell, Edda Brandow, Fenn Sandoval, Greta Ashby, Hugo Lindqvar,
    Iris Velder, Juno Corvin, Kai Delmar, Lena Ferrow, Milo Thorne, Nora Hollart, Otto Novak, Pia Valmor,
    Rasmus Bexley, Selma Drohan, Tilda Wexler, Ulric Fontaine, Vera Maddock, Wanda Pruitt, Xenia Calder, Yorick Stamm,
    Zora Hespel, Anselm Kirov, Bettina Loxley, Caspar Munro, Delphine Oakes, Emil Parrish, Flora Quimby, Gideon Rusk,
    Hester Salgado, Ivo Tanaka, Jasper Ulman, Katya Vossberg, Linus Wakeley, Mirella Yates, Nils Zeller, Odette Abara,
    Percy Bancroft, Quentin Cho, Rowena Dastur, Silas Eklund, Thora Fairfax, Ursula Gantz, Viggo Harkin, Willa Ibsen,
    Yvaine Jorgen, Zeno Kessler, Agnes Lambrecht, Basil Moreau, Cora Nakamura, Dmitri Osgood, Esme Pavel, Felix Rourke,
    Gwen Sorrell, Horace Tull, Imogen Udall, Jonas Vickers, Klara Winslow, Leander Yeo, Maud Zabel, Niko Ackroyd
    """.replace("\n", " ").split(",")
)
PEOPLE = tuple(" ".join(name.split()) for name in PEOPLE)
"""Sixty-four names of two words each; every word is used once."""

STRANGER_FIRST = tuple(
    """
    Aldo Bianca Cyril Doreen Elmar Frida Gustav Helga Igor Janet Kurt Lorna Marek Nadia Oskar Petra Rolf Sonja Tomas
    Ute Victor Wilma Yannick Zelda Arthur Brenda Carlo Denise Erwin Fiona Gerald Hannah Ingrid Julian Karen Lloyd
    """.split()
)
STRANGER_LAST = tuple(
    """
    Adair Birch Conrad Dunmore Ellery Foster Garrick Hobbs Irving Jarvis Keller Lovett Mercer Norris Otway Porter
    Radley Sutton Trevor Upton Vance Whitby Yarrow Zimmer Atwood Barlow Crane Doyle Everett Finch Goddard Hale
    """.split()
)
_ONSETS = "b br d dr f g gr h j k l m n p r s st t tr v w z".split()
_VOWELS = "a e i o u ai ea ou".split()
_CODAS = "n r l s th nd rk m sk".split()


def _made_up(rng: np.random.Generator) -> str:
    parts = [_ONSETS[rng.integers(len(_ONSETS))] + _VOWELS[rng.integers(len(_VOWELS))] for _ in range(2)]
    return ("".join(parts) + _CODAS[rng.integers(len(_CODAS))]).capitalize()


def stranger_name(rng: np.random.Generator) -> str:
    """A name that nobody has: of given words or of syllables, whole or half."""
    chance = rng.random()
    if chance < 0.6:
        words = (STRANGER_FIRST[rng.integers(len(STRANGER_FIRST))], STRANGER_LAST[rng.integers(len(STRANGER_LAST))])
    else:
        words = (_made_up(rng), _made_up(rng))
    return words[int(rng.integers(2))] if rng.random() < 0.2 else " ".join(words)
