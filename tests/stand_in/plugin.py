"""``pytest -p tests.stand_in.plugin``: the tests find two CUDA devices."""

from tests.stand_in import device

device.install()
