import sys
from pathlib import Path

# `fake_training` is imported by the tests, and run as a program by those that need several processes.
sys.path.insert(0, str(Path(__file__).parent))
