import json

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

from workers.reward.model import RewardModel, Text
from workers.reward.warm import average


@pytest.fixture
def members(tiny_model, tmp_path):
    """Three adapters that are far from nothing and from each other."""
    model = RewardModel(tiny_model, 1.0, 2)
    for number in range(3):
        torch.manual_seed(number)
        model.add(f"member-{number}", 4)
        assert model.peft is not None
        for parameter in model.peft.parameters():
            if parameter.requires_grad:
                torch.nn.init.normal_(parameter, std=0.2)
        model.save(f"member-{number}", tmp_path)
    average(tmp_path, [f"member-{number}" for number in range(3)])
    return tmp_path


def updates(tiny_model, folder) -> dict[str, torch.Tensor]:
    """ΔW of each adapted matrix, and the head, as PEFT itself merges them into the base."""
    base = AutoModelForSequenceClassification.from_pretrained(tiny_model, num_labels=1, dtype=torch.float32)
    before = {name: value.clone() for name, value in base.state_dict().items()}
    merged = PeftModel.from_pretrained(base, str(folder)).merge_and_unload().state_dict()
    found = {name: value - before[name] for name, value in merged.items() if "score" not in name}
    head = next(value for name, value in merged.items() if "score" in name)
    return {name: delta for name, delta in found.items() if delta.abs().max() > 0} | {"head": head}


def test_it_is_the_average_of_the_updates_and_not_of_their_factors(members, tiny_model):
    parts = [updates(tiny_model, members / f"member-{number}") for number in range(3)]
    merged = updates(tiny_model, members / "warm")
    assert set(merged) == set(parts[0])
    assert len(merged) == 2 * 4 + 1
    for name, delta in merged.items():
        expected = sum(part[name] for part in parts) / 3
        torch.testing.assert_close(delta, expected, rtol=1e-3, atol=1e-5)
    factors = [load_file(members / f"member-{number}" / "adapter_model.safetensors") for number in range(3)]
    key = next(key for key in factors[0] if "lora_A" in key)
    a = sum(found[key] for found in factors) / 3
    b = sum(found[key.replace("lora_A", "lora_B")] for found in factors) / 3
    naive, name = 2 * b @ a, key.removeprefix("base_model.model.").replace("lora_A.", "")
    assert (merged[name] - naive).abs().max() > 0.1


def test_it_loads_and_scores_as_any_member_does(members, tiny_model):
    config = json.loads((members / "warm" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (12, 24)
    model = RewardModel(tiny_model, 1.0, 2)
    features = model.features([Text([1, 5, 6, 7], 2), Text([1, 5, 9, 10, 11], 2)])
    for name in ("member-0", "warm"):
        model.load(name, members, trainable=False)
    assert model.score(features, "warm").isfinite().all()
    assert model.score(features, "warm").tolist() != model.score(features, "member-0").tolist()


def test_the_average_of_one_is_itself(members, tiny_model):
    average(members, ["member-1"], into="same")
    for name, delta in updates(tiny_model, members / "same").items():
        torch.testing.assert_close(delta, updates(tiny_model, members / "member-1")[name])


def test_adapters_that_are_built_unlike_have_no_average(members, tiny_model):
    model = RewardModel(tiny_model, 1.0, 2)
    model.add("odd", 2)
    model.save("odd", members)
    with pytest.raises(ValueError, match="differ in rank"):
        average(members, ["member-0", "odd"])
