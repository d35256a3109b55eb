from __future__ import annotations

import pytest
import torch

from balrl.devices import check_device
from balrl.errors import UserError


def test_devices() -> None:
    assert check_device("cpu") == torch.device("cpu")
    assert check_device("auto").type in ("cpu", "cuda")
    with pytest.raises(UserError, match="no device 'cuda:99' here; found cpu"):
        check_device("cuda:99")
