from pathlib import Path

from ai_os_diffusion.utils.logger import get_logger


def test_what_a_message_names_stays_on_its_line(caplog):
    for _ in range(2):
        logger = get_logger("names")
    error = ValueError("\x9b2J\u202e")
    logger.warning("%s and %s: %s, %d of %.1f", Path("a\nERROR forged"), "\x1b]0;x\x07", error, 3, 4.0)
    assert caplog.messages == [r"a\nERROR forged and \x1b]0;x\x07: \x9b2J\u202e, 3 of 4.0"]
