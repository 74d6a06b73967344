"""Words, names and addresses for made databases and logs: tables of bytes, each as long as a power of two, to be indexed by bits."""

from __future__ import annotations

from .draws import draw


def _split(text: str) -> list[str]:
    return text.split()


_WORDS = _split(
    "order shipped pending paid refund customer street avenue north south blue green small large wooden steel cotton express "
    "standard gift wrapped fragile return damaged replacement invoice reminder monthly annual first second third corner upper "
    "lower garden river mountain station market harbour bridge window table please call before delivery leave with neighbour "
    "behind the door ring twice not available after noon only on weekdays second floor left entrance side gate code changed "
    "address updated by phone asked for discount voucher applied item missing wrong size colour exchanged sent back received "
    "warehouse stock low ordered again supplier late three days one week waiting for payment bank transfer card declined "
    "retry later approved manual review fraud check passed priority handling insurance included customs form signed parcel "
    "split into two boxes heavy lift tail required appointment needed"
)

_FIRST = _split(
    "Anna Ben Clara David Emma Felix Greta Hugo Ida Jonas Karla Leo Mia Noah Olga Paul Rosa Simon Tina Ulrich Vera Walter "
    "Xenia Yusuf Zoe Adam Bianca Carlos Doris Erik Fatima Georg"
)

_STEMS = _split("ander berg carl dahl eck fisch gold hart im jung klein lind marx nord ost palm")
_ENDS = _split("mann sen er ström ova etti ley ton feld bach hoff stein wald haus berger meyer")
_TOWNS = _split("Alt Neu Ober Unter Gross Klein Bad Sankt Hohen Nieder Ost West Nord Sued Wald See")
_PLACES = _split("stadt dorf heim burg furt hafen brunn tal hausen kirchen feld bruck au berg ried moos")
_ROADS = _split(
    "Hauptstrasse Bahnhofstrasse Gartenweg Lindenallee Marktplatz Kirchplatz Schulweg Ringstrasse Muehlgasse Parkweg "
    "Uferweg Bergstrasse Talweg Rosenweg Waldstrasse Postgasse"
)


def _phrases(count: int, words: int) -> list[str]:
    numbers = draw(count * words, "texts", words)
    return [
        " ".join(_WORDS[number % len(_WORDS)] for number in numbers[at : at + words])
        for at in range(0, count * words, words)
    ]


FIRST = _FIRST
LAST = [(stem + end).capitalize() for stem in _STEMS for end in _ENDS]
TOWN = [town + place for town in _TOWNS for place in _PLACES]
ROAD = _ROADS
PAIR = _phrases(1024, 2)
TRIPLE = _phrases(2048, 3)
STATUS = ["new", "paid", "packed", "shipped", "delivered", "returned", "refunded", "cancelled"]
