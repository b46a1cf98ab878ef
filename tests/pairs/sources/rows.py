"""One invented row of each published schema, after its card. `MORE`: its partner, where rows are pooled."""

from typing import Any


def turn(role: str, content: object) -> dict[str, Any]:
    return {"role": role, "content": content}


def talk(*said: str) -> list[dict[str, Any]]:
    """A conversation that starts with the user."""
    return [turn(("user", "assistant")[i % 2], text) for i, text in enumerate(said)]


Q = "How do I oil a hinge?"
GOOD, BAD = "With a drop of oil.", "With sand."
CONVERSATIONS = {"chosen": talk(Q, GOOD), "rejected": talk(Q, BAD)}

ROWS: dict[str, dict[str, Any]] = {
    "beavertails": {
        "prompt": Q,
        "response": GOOD,
        "is_safe": True,
        "category": {"violence": False},
        "severity_level": 0,
    },
    "wildguard": {
        "prompt": Q,
        "adversarial": False,
        "response": GOOD,
        "prompt_harm_label": "unharmful",
        "response_refusal_label": "compliance",
        "response_harm_label": "unharmful",
        "subcategory": "benign",
    },
    "aegis": {
        "id": "a",
        "reconstruction_id_if_redacted": None,
        "prompt": Q,
        "response": GOOD,
        "prompt_label": "safe",
        "response_label": "safe",
        "violated_categories": "",
        "prompt_label_source": "human",
        "response_label_source": "human",
    },
    "ultrafeedback": {
        "prompt": Q,
        "prompt_id": "1",
        **CONVERSATIONS,
        "messages": talk(Q, GOOD),
        "score_chosen": 8.5,
        "score_rejected": 3.0,
    },
    "ultrafeedback_completions": {
        "source": "evol",
        "instruction": Q,
        "models": ["a", "b", "c"],
        "completions": [
            {"model": "a", "response": BAD, "overall_score": 2.0, "annotations": {}},
            {"model": "b", "response": GOOD, "overall_score": 8.0, "annotations": {}},
            {"model": "c", "response": "With butter.", "overall_score": 5, "annotations": {}},
        ],
    },
    "argilla_ultrafeedback": {
        "source": "evol",
        "prompt": Q,
        **CONVERSATIONS,
        "chosen-rating": 4.75,
        "chosen-model": "a",
        "rejected-rating": 2.0,
        "rejected-model": "b",
    },
    "argilla_averages": {
        "source": "evol",
        "instruction": Q,
        "chosen_response": GOOD,
        "rejected_response": BAD,
        "chosen_avg_rating": 4.5,
        "rejected_avg_rating": 2.0,
        "chosen_model": "a",
    },
    "argilla_mix": {"dataset": "x", **CONVERSATIONS, "chosen_rating": 5.0, "rejected_rating": 4.0},
    "argilla_orca": {
        "system": "Be brief.",
        "input": Q,
        "chosen": GOOD,
        "rejected": BAD,
        "generations": [BAD, GOOD],
        "order": ["rejected", "chosen"],
        "labelling_prompt": talk("rate"),
        "rating": [2.0, 9.0],
        "status": "swapped",
        "chosen_score": 9.0,
        "in_gsm8k_train": False,
    },
    "distilabel": {
        "instruction": Q,
        "generations": [BAD, GOOD, "x"],
        "ratings": [1, 4.5, None],
        "generation_models": [],
    },
    "orca": {"system": "Be brief.", "question": Q, "chosen": GOOD, "rejected": BAD},
    "query": {"query": Q, "chosen": GOOD, "rejected": BAD, "history": [["Hello", "Good day."]]},
    "alpaca": {"instruction": "Answer.", "input": Q, "chosen": GOOD, "rejected": BAD},
    "alpaca_output": {"instruction": Q, "input": "", "output": [GOOD, BAD], "system": "", "history": []},
    "llama_factory": {
        side: [
            {"role": one["role"], "content": [{"type": "text", "value": one["content"]}], "loss_weight": 1.0}
            for one in CONVERSATIONS[side.removesuffix("_messages")]
        ]
        for side in ("chosen_messages", "rejected_messages")
    },
    "swift": {"messages": talk(Q, GOOD), "rejected_response": BAD},
    "kto": {"prompt": talk(Q), "completion": [turn("assistant", GOOD)], "label": True},
    "kto_alpaca": {"instruction": Q, "input": "", "output": GOOD, "kto_tag": True},
    "kto_messages": {"messages": talk(Q, GOOD), "kto_tag": True},
    "helpsteer2_preference": {
        "split": "train",
        "prompt": Q,
        "response_1": BAD,
        "response_2": GOOD,
        "preference_strength": 2,
        "preference_statement": "the second is better",
        "preference_elaboration": "it does not scratch",
        "three_most_similar_preferences": [{"statement": "x", "strength": 2}],
        "all_preferences_unprocessed": [{"statement": "x", "strength": 2}],
    },
    "helpsteer3": {
        "domain": "general",
        "language": "english",
        "context": talk(Q),
        "response1": GOOD,
        "response2": BAD,
        "overall_preference": -3,
        "individual_preference": [{"score": -3, "reasoning": "x"}],
    },
    "helpsteer2": {
        "prompt": Q,
        "response": GOOD,
        "helpfulness": 4,
        "correctness": 4,
        "coherence": 4,
        "complexity": 1,
        "verbosity": 1,
    },
    "nectar": {
        "prompt": f"\n\nHuman: {Q}\n\nAssistant: ",
        "answers": [
            {"answer": f" {BAD}", "model": "a", "rank": 3.0},
            {"answer": GOOD, "model": "b", "rank": 1.0},
            {"answer": "With butter.", "model": "c", "rank": 2.0},
        ],
        "turns": 1,
        "num_responses": 3,
        "source": ["x"],
        "good_natured": True,
    },
    "ranking": {"prompt": Q, "responses": [BAD, GOOD], "ranks": [2, 1]},
    "skywork": {**CONVERSATIONS, "source": "magpie"},
    "tulu": {"id": "1", "prompt": Q, **CONVERSATIONS, "source": "wildchat"},
    "shp": {
        "post_id": "p",
        "domain": "askculinary_train",
        "upvote_ratio": 0.98,
        "history": Q,
        "score_A": 10,
        "score_B": 40,
        "human_ref_A": BAD,
        "human_ref_B": GOOD,
        "labels": 0,
        "score_ratio": 4.0,
    },
    "red_team": {
        "transcript": "\n\nHuman: Hi\n\nAssistant: Hello.",
        "min_harmlessness_score_transcript": 0.5,
        "rating": 1.0,
    },
}

MORE: dict[str, dict[str, Any]] = {
    "beavertails": ROWS["beavertails"] | {"response": BAD, "is_safe": False, "severity_level": 2},
    "wildguard": ROWS["wildguard"] | {"response": BAD, "response_harm_label": "harmful"},
    "aegis": ROWS["aegis"] | {"response": BAD, "response_label": "unsafe"},
    "kto": ROWS["kto"] | {"completion": [turn("assistant", BAD)], "label": False},
    "kto_alpaca": ROWS["kto_alpaca"] | {"output": BAD, "kto_tag": False},
    "kto_messages": ROWS["kto_messages"] | {"messages": talk(Q, BAD), "kto_tag": False},
    "helpsteer2": ROWS["helpsteer2"] | {"response": BAD, "helpfulness": 1},
}
