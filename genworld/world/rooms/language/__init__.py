"""Language about furnished floors: all of it follows from what is there, and none of it from what cannot be seen."""

from genworld.world.rooms.floor import Floor
from genworld.world.rooms.language import questions as plain
from genworld.world.rooms.language import questions_spatial as spatial
from genworld.world.rooms.language.facts import Facts, Situation
from genworld.world.rooms.language.questions import QUESTION_TYPES, Maker, Question, QuestionType, ask
from genworld.world.rooms.language.referring import Reference, references

MAKERS: dict[QuestionType, tuple[Maker, ...]] = {
    "existence": (plain.any_thing, plain.any_coloured, plain.any_coloured, plain.any_in_room),
    "count": (plain.count_colour, plain.count_kind, plain.count_in_room),
    "colour": (plain.colour_of,),
    "size": (plain.size_of,),
    "relation": (spatial.on_what, spatial.what_is_on, spatial.is_next_to, spatial.is_in_room_with),
    "comparison": (
        spatial.which_is_larger,
        spatial.which_is_nearer,
        spatial.more_of_which,
        spatial.same_colour,
    ),
    "situated": (spatial.where_is, spatial.where_is, spatial.colour_there),
}
"""How questions of each type are made; a maker that is named twice is used twice as often."""


def questions(floor: Floor | Facts, each: int = 4, seed: int = 0) -> list[Question]:
    """Questions about a floor, up to `each` of every type: a function of the floor and the seed."""
    return ask(floor, MAKERS, each, seed)


__all__ = [
    "MAKERS",
    "QUESTION_TYPES",
    "Facts",
    "Maker",
    "Question",
    "QuestionType",
    "Reference",
    "Situation",
    "questions",
    "references",
]
