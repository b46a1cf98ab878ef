"""What is said of marks: facts of rows that are counted by `curate.pairs.prepare`; the rows are kept."""

from __future__ import annotations

MARKS = {
    "crlf": "rows whose line breaks were Windows' (CRLF), now LF",
    "implicit_prompt": "rows whose prompt is what chosen and rejected share",
    "safety_by_convention": "rows whose safety labels are the format's convention (ranked_pair claims none)",
    "helpful_is_not_safer": "rows whose more helpful response is not their safer one",
    "safer_is_unsafe": "rows whose safer response is labelled unsafe",
    "tools_left_out": "rows whose prompt comes with tools, which the pair does not have",
    "unrated_replies": "replies without a rating beside others that have one; no pair has them",
    "rated_alike": "pairs whose two responses have the same rating",
    "rated_under_other_names": "rows rated under other names, where the first are null: by another scale?",
    "rated_below": "pairs whose chosen response is rated below the rejected one, and is not the only safe one",
    "unsafe_chosen": "pairs whose chosen response is unsafe and whose rejected one is safe",
    "margin_below_zero": "pairs whose margin is below zero, as if the rejected response were the better one",
    "query_type_is_not_the_labels": "pairs whose query type, safe or unsafe, is not what their two safety labels say",
    "markers_in_a_turn": "pairs with a turn in which a line begins with Human: or Assistant:, as another turn may",
    "template_in_a_turn": "pairs with a chat template's own text (<|im_start|>, [INST], ...) in a turn",
    "transcript_prompts": "prompts that look like transcripts (Human: ... Assistant: ...), each one user turn",
    "split_kept": "rows that kept the split they came with",
    "most_pairs_of_a_prompt": "pairs of the prompt that has most",
}
"""Mark of prepare.json -> a line, in the order in which they are shown."""
