"""What the measuring doors leave behind can be read by any JSON reader."""

import json
import math

from rcnn_jax.output import results


def test_a_number_that_json_has_no_name_for_becomes_null(tmp_path, capsys):
    file = tmp_path / "result.json"
    row = {"precision": math.nan, "bound": -math.inf, "f1": 0.5, "n": 3, "name": "a"}
    results.save(file, {"metrics": row, "details": {"rows": [row, (1, math.nan)]}})

    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    found = json.loads(file.read_text(), parse_constant=refuse)
    assert found["metrics"] == {"precision": None, "bound": None, "f1": 0.5, "n": 3, "name": "a"}
    assert found["details"]["rows"][1] == [1, None]
    assert "written to" in capsys.readouterr().out
