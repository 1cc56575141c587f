"""`python -m tacitly_server.enrolment`."""

import sys

from tacitly_server.enrolment.service import main

sys.exit(main())
