"""`python -m dpsportal.serving`: starts the listeners and keeps them together until told to stop."""

import sys

from dpsportal.serving.supervisor import main

if __name__ == "__main__":
    sys.exit(main())
