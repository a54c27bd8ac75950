from pathlib import Path

import pytest
from PIL import Image

from genworld.world.__main__ import main


def test_draws_a_sheet(tmp_path: Path) -> None:
    out = tmp_path / "world.png"
    main(
        [
            "--seeds",
            "0-1",
            "--out",
            str(out),
            "--size",
            "32x48",
            "--frames",
            "3",
            "--set",
            "max_objects=1",
            "sizes=large",
        ]
    )
    with Image.open(out) as sheet:
        assert sheet.width > 3 * 48
        assert sheet.height > 2 * 32


@pytest.mark.parametrize(("setting", "message"), [("shaps=cone", "did you mean"), ("shapes=cone,pyramid", "pyramid")])
def test_bad_settings_are_one_line_errors(setting: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=message):
        main(["--seeds", "0", "--out", str(tmp_path / "x.png"), "--set", setting])
