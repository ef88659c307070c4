import json
import os
import subprocess
import sys

import pytest
from pydantic import ValidationError

from deploy.processes import KEEP_MEMORY, adapted, engine, engine_flags, worker
from deploy.settings import DeploySettings
from workers.sampling import Sampling


def modules(flags):
    """What follows --lora-target-modules."""
    found = []
    for word in list(flags)[list(flags).index("--lora-target-modules") + 1 :]:
        if word.startswith("--"):
            break
        found.append(word)
    return found


def test_a_cpu_has_places_for_people_beside_what_jobs_ask_for():
    flags = engine_flags("m", False, ["o_proj"])
    places = int(flags[flags.index("--max-num-seqs") + 1])
    assert places >= 2 * Sampling.model_fields["concurrency"].default


def test_an_engine_keeps_the_versions_and_what_a_job_loads_beside_them():
    """vLLM drops the adapter that was used least lately, and says nothing of it."""
    flags = engine_flags("m", False, ["o_proj"])
    kept = int(flags[flags.index("--max-cpu-loras") + 1])
    versions = DeploySettings().loaded_versions
    with pytest.raises(ValidationError, match="LOADED_VERSIONS"):
        DeploySettings(loaded_versions=kept - 2)
    assert DeploySettings(loaded_versions=kept - 3).loaded_versions >= versions


def test_an_engine_wraps_only_what_adapters_are_on(tmp_path):
    settings = DeploySettings(home=tmp_path)
    assert modules(engine(settings, 1).command) == ["o_proj"]
    wider = DeploySettings(home=tmp_path, optimise_targets="o_proj, v_proj")
    assert modules(engine(wider, 1).command) == ["o_proj", "qkv_proj"]


def test_an_engine_still_serves_versions_from_before_the_setting_changed(tmp_path):
    folder = tmp_path / "artifacts" / "policies" / "policy-v1"
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps({"target_modules": ["q_proj", "k_proj"]}))
    settings = DeploySettings(home=tmp_path)
    assert adapted(settings) == {"o_proj", "q_proj", "k_proj"}
    assert modules(engine_flags("m", False, adapted(settings))) == ["o_proj", "qkv_proj"]


# Twelve times two blocks of 12 MB come and go, as a trainer's tensors do → how many pages were fetched.
FETCHED = """
import resource
for _ in range(12):
    kept = [bytearray(b"x") * (12 << 20) for _ in range(2)]
    del kept
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


def test_what_a_trainer_gave_back_is_not_fetched_from_the_system_again():
    def fetched(variables):
        found = subprocess.run(
            [sys.executable, "-c", FETCHED], env=variables, capture_output=True, text=True, check=True
        )
        return int(found.stdout)

    plain = {name: value for name, value in os.environ.items() if name not in KEEP_MEMORY}
    variables = worker("train", DeploySettings()).environment
    assert fetched(plain | {name: variables[name] for name in KEEP_MEMORY}) < fetched(plain) / 3
