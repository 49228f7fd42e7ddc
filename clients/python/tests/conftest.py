"""What tests share: a running service, whose URL PGQUIVER_URL has."""

import uuid

import pytest

import pgquiver


@pytest.fixture(scope="session")
def client():
    with pgquiver.Client() as made:
        yield made


@pytest.fixture
def store_id():
    return f"py-{uuid.uuid4()}"
