"""No message contains a password, a token or a signature."""

import subprocess
import sys

import pytest

from raysearch.cli import run
from raysearch.config.names import reject_login
from raysearch.errors import DataError, StudyError, first_line, without_passwords
from raysearch.search.engine.cluster_checks import Check

SECRET = "planted/S3cret+word"
KEPT = [
    "http://127.0.0.1:5000/#/experiments/1",
    "s3://bucket/a@b/c",
    "models:/name@champion",
    "https://host/x?email=me@example.org",
    "open http://a/b, and write to me@example.org",
    "MLFLOW_AUTH_ADMIN_PASSWORD: not set, or shorter than 12 characters",
    "export RAY_AUTH_MODE=token before every `ray start`",
    "num_tokens=5, design=6, monkey=7, metric_key=8",
    "hf://datasets/x: no address",
]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"s3://KEY:{SECRET}@bucket/x", "s3://***@bucket/x"),
        (f"'s3://KEY:{SECRET}@bucket/x'", "'s3://***@bucket/x'"),
        (f"s3://KEY:12/{SECRET}@bucket", "s3://***@bucket"),
        (f"postgresql://me:a@{SECRET}@db/mlflow", "postgresql://***@db/mlflow"),
        (f"http://a:{SECRET}@b,http://c:{SECRET}@d", "http://***@b,http://***@d"),
        ("https://planted-token@host/x", "https://***@host/x"),
        (f"https://host/x?token={SECRET}&page=1", "https://host/x?token=***&page=1"),
        (
            f"https://b/k?X-Amz-Credential={SECRET}&X-Amz-Signature=planted&X-Amz-Date=1",
            "https://b/k?X-Amz-Credential=***&X-Amz-Signature=***&X-Amz-Date=1",
        ),
        (f"https://b/k?X-Amz-Security-Token={SECRET}", "https://b/k?X-Amz-Security-Token=***"),
        ("https://b/k?se=2026&sig=planted%2F", "https://b/k?se=2026&sig=***"),
        (f"https://h/x?key={SECRET}", "https://h/x?key=***"),
        (f"https://h/x?password={SECRET}", "https://h/x?password=***"),
        (f"host=db password={SECRET} user=me", "host=db password=*** user=me"),
        ("host=db password='planted word'", "host=db password=***"),
        (f"AWS_SECRET_ACCESS_KEY={SECRET}", "AWS_SECRET_ACCESS_KEY=***"),
        (f"{{'password': '{SECRET}', 'user': 'me'}}", "{'password': '***', 'user': 'me'}"),
        (f'{{"auth_token": "{SECRET}"}}', "{\"auth_token\": '***'}"),
        ("Authorization: Bearer planted.token", "Authorization: Bearer ***"),
        ("{'authorization': 'Basic planted'}", "{'authorization': 'Basic ***'}"),
        *((text, text) for text in KEPT),
    ],
)
def test_secrets_are_hidden_and_nothing_else(text: str, shown: str) -> None:
    assert without_passwords(text) == shown
    assert without_passwords(shown) == shown
    assert str(StudyError(text)) == shown
    assert first_line(ValueError(text)) == shown


def test_a_message_is_shortened_after_its_secrets_are_hidden() -> None:
    text = f"{'x' * 80} s3://KEY:{SECRET}@bucket"
    assert first_line(OSError(text), 100) == f"{'x' * 80} s3://***@bucket"[:100]


@pytest.mark.parametrize(
    "address", [f"s3://KEY:{SECRET}@bucket", "https://planted-token@h/x", "s3://b/k?sig=planted"]
)
def test_an_address_with_any_secret_is_rejected(address: str) -> None:
    with pytest.raises(DataError, match="contains a password or a token") as rejected:
        reject_login(address)
    assert "planted" not in str(rejected.value)


def test_the_checks_of_doctor_hide_secrets() -> None:
    check = Check("storage", False, f"s3://KEY:{SECRET}@bucket: cannot be read", "fix it")
    assert check.details == "s3://***@bucket: cannot be read"


@pytest.mark.parametrize(
    "arguments",
    [
        ("inspect", f"s3://KEY:{SECRET}@bucket/x"),
        ("results", "first", "--studies", f"s3://KEY:{SECRET}@bucket/x"),
        ("launch", "--studies", f"s3://KEY:{SECRET}@bucket", f"https://h/x?token={SECRET}"),
        ("evaluate", "models:/m@champion", f"https://host/x?token={SECRET}"),
    ],
)
def test_no_command_prints_a_secret_of_its_arguments(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(list(arguments)) == 2
    printed = capsys.readouterr()
    assert "***" in printed.err
    assert SECRET not in printed.out + printed.err


def test_a_traceback_hides_secrets() -> None:
    code = f"""
from raysearch import cli
def fail(_arguments):
    raise RuntimeError("s3://KEY:{SECRET}@bucket is away")
cli.run = fail
cli.main()
"""
    process = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True
    )
    text = process.stderr
    assert process.returncode == 1
    assert "Traceback" in text
    assert "RuntimeError: s3://***@bucket is away" in text
    assert SECRET not in text
