"""Lists the tasks of reasoning-gym that the lab offers, how each is scored, and why others are not offered. Data only.

The list holds for one version of the library, and a test proves it again for every task of the library: rows are equal
in two processes with different hash seeds, random states, orders of drawing and numbers of rows; own answers score 1,
junk scores 0; no reply is run as code.
"""

from __future__ import annotations

VERSION = "0.1.25"
"""Of reasoning-gym: rows, answers and scorers depend on it."""

BY_LIBRARY = frozenset(
    {
        "ab", "aiw", "arc_1d", "arc_agi", "base_conversion", "basic_arithmetic", "bf", "binary_alternation",
        "bitwise_arithmetic", "caesar_cipher", "calendar_arithmetic", "chain_sum", "circuit_logic",
        "color_cube_rotation", "count_bits", "count_primes", "course_schedule", "cryptarithm", "decimal_chain_sum",
        "dice", "emoji_mystery", "family_relationships", "futoshiki", "game_of_life", "gcd",
        "group_anagrams", "jugs", "largest_island", "lcm", "leg_counting", "letter_counting", "list_functions",
        "mahjong_puzzle", "manipulate_matrix", "maze", "mini_sudoku", "modulo_grid", "needle_haystack",
        "number_filtering", "number_sequence", "number_sorting", "palindrome_generation", "palindrome_partitioning",
        "path_star", "prime_factorization", "products", "rearc", "rectangle_count", "rotate_matrix",
        "rotten_oranges", "self_reference", "sentence_reordering", "shortest_path", "simple_equations",
        "simple_geometry", "string_manipulation", "string_splitting", "string_synthesis", "sudoku", "syllogism",
        "tower_of_hanoi", "tsumego", "word_sequence_reversal", "word_sorting", "zebra_puzzles",
    }
)  # fmt: skip
"""Scored by the library: it takes every right answer where several are right, and never a wrong one."""

_NEAR = "the library's scorer takes wrong numbers that are near"
_PART = "the library's scorer takes a reply that only contains the answer"
_RUNS = "the library's scorer runs the reply as Python code"

BY_TEXT = {
    "advanced_geometry": _NEAR,
    "binary_matrix": _RUNS,
    "coin_flip": _NEAR,
    "complex_arithmetic": "the library's scorer takes nan",
    "decimal_arithmetic": _NEAR,
    "figlet_font": _PART,
    "fraction_simplification": _PART,
    "game_of_life_halting": "the library's scorer takes any text for False",
    "gsm_symbolic": _PART,
    "kakurasu": _PART,
    "knights_knaves": _PART,
    "letter_jumble": _PART,
    "number_format": _NEAR,
    "pool_matrix": _NEAR,
    "spell_backward": "the library's scorer takes some words that only begin with the answer",
    "spiral_matrix": _RUNS,
    "string_insertion": _RUNS,
    "time_intervals": _PART,
}
"""Scored by equal text, or equal numbers: each question has one answer, and the library's scorer is not exact (why)."""

_NO_TEXT = "its answers are no text (the library gives None and leaves solving to the model)"
_SETS = "its rows come from Python sets of text, whose order differs from process to process"
_MANY_RUN = f"several answers are right, and {_RUNS}"
_MANY_PART = f"several answers are right, and {_PART}"

NOT_OFFERED = {
    "acre": "its rows change with the number of rows that are asked for",
    "boxnet": _NO_TEXT,
    "codeio": "its answers are what Python code returns, and some of it depends on the order of sets",
    "composite": "it is a mixture of other tasks, whose options are no plain values",
    "countdown": _MANY_RUN,
    "graph_color": _NO_TEXT,
    "intermediate_integration": f"{_SETS}; {_MANY_RUN}",
    "isomorphic_strings": _SETS,
    "knight_swap": _SETS,
    "n_queens": _MANY_RUN,
    "polynomial_equations": "the order of several solutions is not given, and the library's scorer takes near numbers",
    "polynomial_multiplication": f"{_SETS}; {_MANY_RUN}",
    "power_function": "its questions ask for three digits and its answers have seventeen",
    "propositional_logic": _NO_TEXT,
    "puzzle24": _MANY_RUN,
    "quantum_lock": _MANY_PART,
    "ransom_note": _SETS,
    "rubiks_cube": _NO_TEXT,
    "rush_hour": _NO_TEXT,
    "simple_integration": _MANY_RUN,
    "sokoban": _MANY_PART,
    "survo": f"some of its puzzles have several solutions, of which one counts, and {_PART}",
    "word_ladder": _SETS,
}
"""Not offered, and why."""
