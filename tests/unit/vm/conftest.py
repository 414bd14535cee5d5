"""What several tests of the virtual machines need."""

import pytest
from vm_images import bzimage_of


@pytest.fixture
def bzimage_file(tmp_path):
    path = tmp_path / "bzImage"
    path.write_bytes(bzimage_of(b""))
    return path
