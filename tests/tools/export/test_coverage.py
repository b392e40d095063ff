"""One architecture of each family is exported and verified; `make export-table` does all of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.export import coverage

FAMILIES = (
    "alexnet",
    "convnext_tiny",
    "densenet121",
    "efficientnet_b0",
    "googlenet",
    "inception_v3",
    "mnasnet0_5",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "regnet_y_400mf",
    "resnet18",
    "shufflenet_v2_x0_5",
    "squeezenet1_1",
    "vgg11",
    "vit_b_32",
    "timm:resnet10t",
)


@pytest.mark.parametrize("architecture", FAMILIES)
def test_family(architecture: str) -> None:
    row = coverage.examine(architecture)
    assert (row.onnx, row.openvino) == (coverage.EXPORTED, coverage.EXPORTED)


def test_table_continues_where_it_ended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    examined: list[str] = []

    def examine(name: str) -> coverage.Row:
        examined.append(name)
        return coverage.Row(name, 64, "layer4", coverage.EXPORTED, "lacks an operator | so it does not work")

    monkeypatch.setattr(coverage, "examine", examine)
    output = tmp_path / "new" / "rows.jsonl"
    assert coverage.main(["a", "b", "--output", str(output)]) == 0
    assert coverage.main(["a", "b", "c", "--output", str(output)]) == 0
    assert examined == ["a", "b", "c"]
    table = capsys.readouterr().out.splitlines()
    assert table[-1] == "| `c` | `layer4` | yes | lacks an operator \\| so it does not work |"
    assert len(output.read_text().splitlines()) == 3


def test_an_unknown_architecture_has_a_reason() -> None:
    assert "Unknown architecture 'resnet17'" in coverage.examine("resnet17").onnx
