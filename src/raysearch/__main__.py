"""`python -m raysearch` is the command `raysearch`."""

from raysearch.required_packages import check_job

check_job()  # a library that is missing is named, instead of the traceback of its import

from raysearch.cli import main  # noqa: E402 see above

main()
