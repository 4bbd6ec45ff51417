"""Init data: read leniently, passed on without secrets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyboinc import initdata
from pyboinc.initdata import ClientData, InitData

TEXT = """<app_init_data>
<app_version>101</app_version>
<hostid>3</hostid>
<app_name>work</app_name>
<project_preferences>
<ncpus>9</ncpus><color>red & <b>blue</color>
</project_preferences>
<user_name>Ada &amp; &lt;Co&gt;</user_name>
<authenticator>0123456789abcdef</authenticator>
<result_name>wu_1_0</result_name>
<client_pid>4711</client_pid>
<comm_obj_name>boinc_3</comm_obj_name>
<wu_cpu_time>12.500000</wu_cpu_time>
<checkpoint_period>60.000000</checkpoint_period>
<ncpus>2.000000</ncpus>
<host_info>
    <ncpus>64</ncpus>
</host_info>
<proxy_info><http_user_passwd>secret</http_user_passwd></proxy_info>
</app_init_data>
"""


def test_fields_have_their_types() -> None:
    init = initdata.parse(TEXT)
    assert (init.app_version, init.app_name, init.result_name) == (101, "work", "wu_1_0")
    assert (init.wu_cpu_time, init.checkpoint_period) == (12.5, 60.0)
    assert init.user_name == "Ada & <Co>"
    assert init.rsc_memory_bound == 0


def test_preferences_need_not_be_well_formed_and_hide_nothing() -> None:
    init = initdata.parse(TEXT)
    assert init.project_preferences == "<ncpus>9</ncpus><color>red & <b>blue</color>"
    assert init.ncpus == 2


@pytest.mark.parametrize("container", ["project_preferences", "host_info", "global_preferences"])
def test_a_namesake_inside_a_container_is_not_taken(container: str) -> None:
    text = f"<app_init_data><{container}><hostid>99</hostid></{container}><hostid>3</hostid></app_init_data>"
    assert initdata.parse(text).hostid == 3


def test_a_period_of_zero_is_the_default() -> None:
    assert initdata.parse("<checkpoint_period>0</checkpoint_period>").checkpoint_period == 300


def test_secrets_do_not_get_to_the_child() -> None:
    passed_on = initdata.parse(TEXT).to_text()
    for secret in ("0123456789abcdef", "secret", "4711", "boinc_3"):
        assert secret not in passed_on
    assert vars(initdata.parse(passed_on)) == vars(initdata.parse(TEXT))


def test_the_supervisor_finds_the_client() -> None:
    assert (ClientData(TEXT).client_pid, ClientData(TEXT).comm_obj_name) == (4711, "boinc_3")
    assert (ClientData("").client_pid, ClientData("").comm_obj_name) == (0, "")


@given(st.text(alphabet="<>/abc&;app_inithosd1.0\n"))
def test_no_text_breaks_it(text: str) -> None:
    initdata.parse(text)


@pytest.mark.parametrize("number", ["", "nan", "inf", "-inf", "1e999", "twelve"])
def test_what_is_no_number_keeps_the_default(number: str) -> None:
    assert initdata.parse(f"<hostid>{number}</hostid><ncpus>{number}</ncpus>").to_text() == ""


def test_it_is_not_to_be_changed() -> None:
    with pytest.raises(AttributeError, match="not to be changed"):
        InitData().hostid = 5
    with pytest.raises(TypeError, match="authenticator"):
        InitData(authenticator="x")
