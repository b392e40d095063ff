"""Every error code is documented."""

from __future__ import annotations

import inspect
import re

from lens import endpoints, errors, torchserve


def test_the_documented_codes_are_those_in_use() -> None:
    documented = re.findall(r"^    (\d+) (\w+) ", errors.__doc__ or "", re.MULTILINE)
    source = inspect.getsource(endpoints) + inspect.getsource(torchserve)
    raised = re.findall(r'ProxyError\(\s*(\d+), "(\w+)"', source)
    assert len(documented) == 7
    assert sorted(documented) == sorted(set(raised))
