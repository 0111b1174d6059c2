"""What a store's URI and options may be, and what must not get into a journal."""

import pickle
import re
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest
from letstune.errors import PlanError, StoreError

from letstune_fsspec import FsspecStore
from letstune_fsspec.options import where_secrets_go, with_defaults
from letstune_fsspec.store import StoreByName

SECRET = "wJalrXUtnFEMI"


@pytest.mark.parametrize(
    "options",
    [
        {"key": SECRET},
        {"secret": SECRET},
        {"token": SECRET},
        {"token": {"private_key": SECRET}},
        {"password": SECRET},
        {"connection_string": SECRET},
        {"account_key": SECRET},
        {"sas_token": SECRET},
        {"credential": SECRET},
        {"client_secret": SECRET},
        {"pkey": SECRET},
        {"client_kwargs": {"aws_secret_access_key": SECRET}},
        {"client_kwargs": {"aws_session_token": SECRET}},
        {"s3_additional_kwargs": {"SSECustomerKey": SECRET}},
        {"a": [{"b": [{"Password": SECRET}]}]},
        {"endpoint_url": f"http://me:{SECRET}@host/"},
        {"config_kwargs": {"proxies": {"http": f"http://me:{SECRET}@host/"}}},
        {"headers": {"Authorization": SECRET}},
        *[{name: SECRET} for name in ("accesskey", "secretkey", "apikey", "accountkey", "bearer")],
        *[{name: SECRET} for name in ("sessiontoken", "clientsecret", "userpassword", "APIKEY")],
        {"client_kwargs": {"awssecretaccesskey": SECRET}},
        {"token": f"anon-{SECRET}"},
        *[{name: SECRET} for name in ("connstr", "conn", "pass", "pw", "creds", "proxy", "x")],
        {"headers": {"X-Whatever": SECRET}},
        {"headers": [SECRET]},
        {"endpoint_url": f"http://host/?x={SECRET}"},
        {"endpoint_url": f"http://host/#{SECRET}"},
        {"endpoint_url": f"http://{SECRET}@host"},
        {"client_kwargs": {"endpoint_url": f"https://AKIA:a/b{SECRET}@host"}},
        {"region": f"password={SECRET}"},
        {"password": 123456},
        {"pw": 1.5, "parallel": 3},
        {"key": "anon" + SECRET},
    ],
    ids=str,
)
def test_secrets_are_refused_and_not_repeated(options: dict[str, Any]) -> None:
    with pytest.raises(PlanError, match="recorded in the journal") as raised:
        FsspecStore("s3://bucket/a", **options)
    assert SECRET not in "".join(traceback.format_exception_only(raised.value))
    assert "AWS_ACCESS_KEY_ID" in str(raised.value)


@pytest.mark.parametrize("user", [f"me:{SECRET}", f"AKIA:a/b{SECRET}", SECRET, f"me:a@{SECRET}"])
def test_user_information_in_the_uri_is_refused_and_not_repeated(user: str) -> None:
    with pytest.raises(PlanError, match=r"sftp://\.\.\.@host/a.*FSSPEC_SFTP_PASSWORD") as raised:
        FsspecStore(f"sftp://{user}@host/a")
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize("tail", [f"?sig={SECRET}", f"#{SECRET}"])
def test_a_query_in_the_uri_is_refused_and_not_repeated(tail: str) -> None:
    with pytest.raises(PlanError, match=r"s3://bucket/a[?#]\.\.\.'.* query may hold") as raised:
        FsspecStore(f"s3://bucket/a{tail}")
    assert SECRET not in str(raised.value)


def test_a_container_before_the_at_is_taken_and_a_password_is_not() -> None:
    pytest.importorskip("adlfs")
    FsspecStore("abfss://container@account.dfs.core.windows.net/a")


@pytest.mark.parametrize("user", [f"me:{SECRET}", f"a/b{SECRET}", f"a@{SECRET}"])
def test_what_is_no_container_is_refused(user: str) -> None:
    with pytest.raises(PlanError, match="user information may hold a secret") as raised:
        FsspecStore(f"abfss://{user}@account.dfs.core.windows.net/a")
    assert SECRET not in str(raised.value)


def test_a_journal_from_before_the_list_has_its_store() -> None:
    """Its options are recorded already, and `resume` makes the store of them."""
    old = {"connstr": "x", "headers": {"a": "b"}, "endpoint_url": "http://host/?a=b"}
    store = StoreByName("memory://me@host/a", **old)
    assert isinstance(store, FsspecStore)
    assert (store.root, store._options) == ("memory://me@host/a", old)
    assert "endpoint_url" in StoreByName.harmless_options
    assert "FSSPEC_SFTP_" in StoreByName.where_secrets_go("sftp://host")


def test_what_a_service_repeats_is_told_without_signatures() -> None:
    store = StoreByName("memory://a")
    with pytest.raises(StoreError, match=r"https://h/a\?\.\.\.") as raised, store._at_work():
        raise ValueError(f"GET https://h/a?sig={SECRET} and ftp://me:{SECRET}@h failed")
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize(
    "options",
    [
        {"anon": True, "endpoint_url": "http://127.0.0.1:1", "profile": "work"},
        {"client_kwargs": {"region_name": "eu-central-1", "verify": False}},
        {"s3_additional_kwargs": {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "alias/a"}},
        {"s3_additional_kwargs": {"BucketKeyEnabled": True}},
        {"account_name": "me", "key_filename": "/home/me/.ssh/id", "look_for_keys": True},
        {"token": None},
        *[{"token": how} for how in ("anon", "cloud", "browser", "google_default", "cache")],
        {"auth_protocol": "ntlm", "auth_timeout": 30, "keypairs": 3},
    ],
    ids=str,
)
def test_what_is_listed_is_taken(options: dict[str, Any]) -> None:
    FsspecStore("s3://bucket/a", **options)


def test_the_environments_secrets_are_not_pickled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    store = FsspecStore("s3://bucket/a", endpoint_url="http://127.0.0.1:9", patience=0)
    with pytest.raises(OSError, match="a"):
        store.check()  # so that it has connected, or tried to
    assert SECRET.encode() not in pickle.dumps(store)


def test_objects_are_refused() -> None:
    with pytest.raises(PlanError, match="its option session is a object"):
        FsspecStore("s3://bucket/a", session=object())


@pytest.mark.parametrize(
    "uri",
    [
        *("", "bucket/a", "s3:bucket", "s3://", "s3:///a", "s3://b//a", "s3://b/../a", "s3://b/.."),
        *("s3://b/a*", "s3://b/[a]", "s3://b/a?versionId=1", "simplecache::s3://b/a", 7, None),
    ],
)
def test_odd_uris_are_refused(uri: Any) -> None:
    with pytest.raises(PlanError, match=r"^store="):
        FsspecStore(uri)


@pytest.mark.parametrize("scheme", ["file", "local"])
@pytest.mark.parametrize("place", ["", "ck", "ck/runs", "./ck", "../ck", "."])
def test_a_relative_directory_is_refused_and_told_as_an_absolute_one(
    scheme: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PlanError, match=r"an absolute path.*another directory") as raised:
        FsspecStore(f"{scheme}://{place}")
    (better,) = re.findall(r"such as '(.*?)'", str(raised.value))
    assert FsspecStore(better).root == f"{scheme}://{(tmp_path / place).resolve()}"


@pytest.mark.parametrize("uri", ["file:///a/b", "local:///a/b", "file://~/b"])
def test_an_absolute_directory_is_taken(uri: str) -> None:
    assert FsspecStore(uri).root == uri


def test_a_slash_at_the_end_makes_no_difference() -> None:
    assert FsspecStore("s3://bucket/a/").root == "s3://bucket/a"


def test_an_unknown_scheme_is_told() -> None:
    with pytest.raises(PlanError, match=r"no scheme 's4'; it knows .*s3.*`pip install`"):
        FsspecStore("s4://bucket/a")


@pytest.mark.parametrize(
    ("uri", "module", "cure"),
    [
        ("s3://bucket/a", "s3fs", r"pip install 'letstune-fsspec\[s3\]'"),
        ("gs://bucket/a", "gcsfs", r"pip install 'letstune-fsspec\[gs\]'"),
        ("abfs://bucket/a", "adlfs", r"pip install 'letstune-fsspec\[abfs\]'"),
        ("oci://bucket/a", "ocifs", "`pip install` that: .*ocifs"),
    ],
)
def test_a_missing_package_is_told(uri: str, module: str, cure: str) -> None:
    script = (
        f"import sys; sys.modules[{module!r}] = None\n"
        "from letstune_fsspec import FsspecStore\n"
        "from letstune.errors import MissingPackageError\n"
        f"try: FsspecStore({uri!r})\n"
        "except MissingPackageError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert re.search(cure, done.stdout), done.stderr


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("parallel", 0), ("parallel", 1.5), ("parallel", True), ("parallel", "8")),
        *(("cache_size", -1), ("patience", -1), ("patience", float("nan")), ("patience", "1")),
    ],
)
def test_odd_numbers_are_refused(name: str, value: Any) -> None:
    with pytest.raises(PlanError, match=rf"^{name}="):
        FsspecStore("memory://a", **{name: value})


def test_there_is_one_layer_of_retries() -> None:
    assert with_defaults("s3://b", {"anon": True}) == {
        "anon": True,
        "max_concurrency": 1,
        "config_kwargs": {"retries": {"total_max_attempts": 1}},
    }
    own = {"max_concurrency": 3, "config_kwargs": {"retries": {"mode": "adaptive"}, "x": 1}}
    assert with_defaults("s3://b", own) == own
    assert with_defaults("gs://b", {}) == {}


def test_fsspecs_own_configuration_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    from fsspec.config import conf

    monkeypatch.setitem(conf, "s3", {"config_kwargs": {"read_timeout": 3}, "max_concurrency": 2})
    found = with_defaults("s3://b", {})
    assert found["max_concurrency"] == 2
    assert found["config_kwargs"] == {"retries": {"total_max_attempts": 1}, "read_timeout": 3}


def test_where_secrets_go_is_told_for_any_scheme() -> None:
    assert "AWS_ACCESS_KEY_ID" in where_secrets_go("s3://b")
    assert "FSSPEC_ABFS_" in where_secrets_go("abfs://b")


def test_a_cache_is_the_same_from_every_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = FsspecStore("memory://a", cache="here")
    assert store._manner.cache == str(tmp_path / "here")
