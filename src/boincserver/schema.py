"""The tables: those of the official server under its own names, and ours, which carry the prefix `boincserver_`.

The official tables are never altered. What the official schema lacks lives beside it in our own tables, so the same
database serves this server, or the official daemons, or both.
"""

from __future__ import annotations

from sqlalchemy import (
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.dialects import mysql

from boincserver.states import NEVER

__all__ = [
    "app",
    "app_version",
    "batch",
    "boincserver_app",
    "boincserver_app_version",
    "boincserver_batch",
    "boincserver_file",
    "boincserver_file_use",
    "boincserver_invitation",
    "boincserver_meta",
    "boincserver_outbox",
    "consent",
    "consent_type",
    "host",
    "host_app_version",
    "message_host",
    "metadata",
    "msg_from_host",
    "msg_to_host",
    "platform",
    "result",
    "team",
    "token",
    "user",
    "user_submit",
    "user_submit_app",
    "workunit",
]

metadata = MetaData()

_Blob = LargeBinary().with_variant(mysql.MEDIUMBLOB(), "mysql", "mariadb")
_MediumText = Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb")


def _id() -> Column[int]:
    return Column("id", Integer, primary_key=True, autoincrement=True)


def _int(name: str, default: int = 0) -> Column[int]:
    return Column(name, Integer, nullable=False, server_default=str(default))


def _small(name: str, default: int = 0) -> Column[int]:
    return Column(name, SmallInteger, nullable=False, server_default=str(default))


def _double(name: str, default: float = 0) -> Column[float]:
    return Column(name, Double, nullable=False, server_default=str(default))


def _name(name: str, length: int = 254) -> Column[str]:
    return Column(name, String(length), nullable=False, server_default="")


platform = Table(
    "platform", metadata, _id(), _int("create_time"), _name("name"), _name("user_friendly_name"), _small("deprecated"),
    UniqueConstraint("name", name="platform_name"),
)  # fmt: skip

app = Table(
    "app", metadata, _id(), _int("create_time"), _name("name"), _int("min_version"), _small("deprecated"),
    _name("user_friendly_name"), _small("homogeneous_redundancy"), _double("weight", 1), _small("beta"),
    _small("target_nresults"), _double("min_avg_pfc", 1), _small("host_scale_check"), _small("homogeneous_app_version"),
    _small("non_cpu_intensive"), _int("locality_scheduling"), _small("n_size_classes"), _small("fraction_done_exact"),
    UniqueConstraint("name", name="app_name"),
)  # fmt: skip

app_version = Table(
    "app_version", metadata, _id(), _int("create_time"), _int("appid"), _int("version_num"), _int("platformid"),
    Column("xml_doc", _MediumText), _int("min_core_version"), _int("max_core_version"), _small("deprecated"),
    _name("plan_class"), _double("pfc_n"), _double("pfc_avg"), _double("pfc_scale"), _double("expavg_credit"),
    _double("expavg_time"), _small("beta"),
    UniqueConstraint("appid", "platformid", "version_num", "plan_class", name="apvp"),
)  # fmt: skip

user = Table(
    "user", metadata, _id(), _int("create_time"), _name("email_addr"), _name("name"), _name("authenticator"),
    _name("country"), _name("postal_code"), _double("total_credit"), _double("expavg_credit"), _double("expavg_time"),
    Column("global_prefs", _MediumText), Column("project_prefs", _MediumText), _int("teamid"), _name("venue"),
    _name("url"), _small("send_email", 1), _small("show_hosts"), _small("posts"), _int("seti_id"),
    _int("seti_nresults"), _int("seti_last_result_time"), _double("seti_total_cpu"), _name("signature"),
    _small("has_profile"), _name("cross_project_id"), _name("passwd_hash"), _small("email_validated"),
    _small("donated"), _name("login_token", 32), _double("login_token_time"), _name("previous_email_addr"),
    _double("email_addr_change_time"),
    UniqueConstraint("email_addr", name="user_email_addr"), UniqueConstraint("authenticator", name="user_auth"),
)  # fmt: skip

team = Table(
    "team", metadata, _id(), _int("create_time"), _int("userid"), _name("name"), _name("name_lc"), _name("url"),
    _int("type"), Column("name_html", Text), Column("description", Text), _int("nusers"), _name("country"),
    _double("total_credit"), _double("expavg_credit"), _double("expavg_time"), _int("seti_id"), _int("ping_user"),
    _int("ping_time"), _int("joinable", 1), _int("mod_time"),
    UniqueConstraint("name", name="team_name"),
)  # fmt: skip

host = Table(
    "host", metadata, _id(), _int("create_time"), _int("userid"), _int("rpc_seqno"), _int("rpc_time"),
    _double("total_credit"), _double("expavg_credit"), _double("expavg_time"), _int("timezone"), _name("domain_name"),
    _name("serialnum"), _name("last_ip_addr"), _int("nsame_ip_addr"), _double("on_frac", 1),
    _double("connected_frac", 1), _double("active_frac", 1), _double("cpu_efficiency", 1),
    _double("duration_correction_factor", 1), _int("p_ncpus"), _name("p_vendor"), _name("p_model"),
    _double("p_fpops"), _double("p_iops"), _double("p_membw"), _name("os_name"), _name("os_version"),
    _double("m_nbytes"), _double("m_cache"), _double("m_swap"), _double("d_total"), _double("d_free"),
    _double("d_boinc_used_total"), _double("d_boinc_used_project"), _double("d_boinc_max"), _double("n_bwup"),
    _double("n_bwdown"), _double("credit_per_cpu_sec"), _name("venue"), _int("nresults_today"),
    _double("avg_turnaround"), _name("host_cpid"), _name("external_ip_addr"), _int("max_results_day"),
    _double("error_rate"), _name("product_name"), _double("gpu_active_frac"), _int("p_ngpus"), _double("p_gpu_fpops"),
    Index("host_userid_cpid", "userid", "host_cpid"),
)  # fmt: skip

workunit = Table(
    "workunit", metadata, _id(), _int("create_time"), _int("appid"), _name("name"), Column("xml_doc", _MediumText),
    _int("batch"), _double("rsc_fpops_est"), _double("rsc_fpops_bound"), _double("rsc_memory_bound"),
    _double("rsc_disk_bound"), _small("need_validate"), _int("canonical_resultid"), _double("canonical_credit"),
    _int("transition_time", NEVER), _int("delay_bound"), _int("error_mask"), _int("file_delete_state"),
    _int("assimilate_state"), _int("hr_class"), _double("opaque"), _int("min_quorum"), _int("target_nresults"),
    _int("max_error_results"), _int("max_total_results"), _int("max_success_results"),
    _name("result_template_file", 63), _int("priority"), _double("rsc_bandwidth_bound"), _int("fileset_id"),
    _int("app_version_id"), _int("transitioner_flags"), _small("size_class", -1), _name("keywords"),
    _int("app_version_num"),
    UniqueConstraint("name", name="wu_name"),
)  # fmt: skip
# Partial indexes hold only what is still to be done, so their cost does not grow with the number of finished jobs.
Index("wu_timeout", workunit.c.transition_time, sqlite_where=workunit.c.transition_time < NEVER)
Index("wu_val", workunit.c.need_validate, sqlite_where=workunit.c.need_validate == 1)
Index("wu_assim", workunit.c.assimilate_state, sqlite_where=workunit.c.assimilate_state == 1)
Index("wu_filedel", workunit.c.file_delete_state, sqlite_where=workunit.c.file_delete_state == 1)
Index("wu_batch", workunit.c.batch, sqlite_where=workunit.c.batch > 0)

result = Table(
    "result", metadata, _id(), _int("create_time"), _int("workunitid"), _int("server_state"), _int("outcome"),
    _int("client_state"), _int("hostid"), _int("userid"), _int("report_deadline"), _int("sent_time"),
    _int("received_time"), _name("name"), _double("cpu_time"), Column("xml_doc_in", _MediumText),
    Column("xml_doc_out", _MediumText), Column("stderr_out", _MediumText), _int("batch"), _int("file_delete_state"),
    _int("validate_state"), _double("claimed_credit"), _double("granted_credit"), _double("opaque"), _int("random"),
    _int("app_version_num"), _int("appid"), _int("exit_status"), _int("teamid"), _int("priority"),
    _double("elapsed_time"), _double("flops_estimate"), _int("app_version_id"), _small("runtime_outlier"),
    _small("size_class", -1), _double("peak_working_set_size"), _double("peak_swap_size"),
    _double("peak_disk_usage"),
    UniqueConstraint("name", name="result_name"),
)  # fmt: skip
Index("res_wu", result.c.workunitid)
Index("res_unsent", result.c.server_state, result.c.priority, sqlite_where=result.c.server_state == 2)
Index("res_in_progress", result.c.hostid, result.c.server_state, sqlite_where=result.c.server_state == 4)
Index("res_filedel", result.c.file_delete_state, sqlite_where=result.c.file_delete_state == 1)

batch = Table(
    "batch", metadata, _id(), _int("user_id"), _int("create_time"), _double("logical_start_time"),
    _double("logical_end_time"), _double("est_completion_time"), _int("njobs"), _double("fraction_done"),
    _int("nerror_jobs"), _int("state"), _double("completion_time"), _double("credit_estimate"),
    _double("credit_canonical"), _double("credit_total"), _name("name"), _int("app_id"), _int("project_state"),
    _name("description"), _double("expire_time"),
    UniqueConstraint("name", name="batch_name"),
)  # fmt: skip

user_submit = Table(
    "user_submit", metadata, Column("user_id", Integer, primary_key=True, autoincrement=False), _double("quota"),
    _double("logical_start_time"), _small("submit_all"), _small("manage_all"), _int("max_jobs_in_progress"),
)  # fmt: skip

user_submit_app = Table(
    "user_submit_app", metadata, Column("user_id", Integer, primary_key=True, autoincrement=False),
    Column("app_id", Integer, primary_key=True, autoincrement=False), _small("manage"),
)  # fmt: skip

host_app_version = Table(
    "host_app_version", metadata, Column("host_id", Integer, primary_key=True, autoincrement=False),
    Column("app_version_id", Integer, primary_key=True, autoincrement=False), _double("pfc_n"), _double("pfc_avg"),
    _double("et_n"), _double("et_avg"), _double("et_var"), _double("et_q"), _int("max_jobs_per_day"),
    _int("n_jobs_today"), _double("turnaround_n"), _double("turnaround_avg"), _double("turnaround_var"),
    _double("turnaround_q"), _int("consecutive_valid"),
)  # fmt: skip

msg_from_host = Table(
    "msg_from_host", metadata, _id(), _int("create_time"), _int("hostid"), _name("variety"), _small("handled"),
    Column("xml", _MediumText),
)  # fmt: skip
Index("message_handled", msg_from_host.c.handled, sqlite_where=msg_from_host.c.handled == 0)
message_host = Index("boincserver_message_host", msg_from_host.c.hostid)

msg_to_host = Table(
    "msg_to_host", metadata, _id(), _int("create_time"), _int("hostid"), _name("variety"), _small("handled"),
    Column("xml", _MediumText),
)  # fmt: skip
Index("msg_to_host_hostid", msg_to_host.c.hostid, msg_to_host.c.handled, sqlite_where=msg_to_host.c.handled == 0)

boincserver_meta = Table(
    "boincserver_meta", metadata, Column("name", String(64), primary_key=True),
    Column("value", String(254), nullable=False),
)  # fmt: skip

boincserver_app = Table(
    "boincserver_app", metadata, Column("appid", Integer, primary_key=True, autoincrement=False),
    _name("validator"), _name("assimilator"),
)  # fmt: skip

boincserver_app_version = Table(
    "boincserver_app_version", metadata, Column("app_version_id", Integer, primary_key=True, autoincrement=False),
    Column("digest", String(64), nullable=False),
)  # fmt: skip

boincserver_batch = Table(
    "boincserver_batch", metadata, Column("batchid", Integer, primary_key=True, autoincrement=False),
    _double("lease"),
)  # fmt: skip

boincserver_file = Table(
    "boincserver_file", metadata, Column("name", String(254), primary_key=True), _double("nbytes"),
    Column("md5", String(32), nullable=False), _int("create_time"),
)  # fmt: skip

boincserver_file_use = Table(
    "boincserver_file_use", metadata, Column("workunitid", Integer, primary_key=True, autoincrement=False),
    Column("name", String(254), primary_key=True),
)  # fmt: skip
Index("file_use_name", boincserver_file_use.c.name)

boincserver_outbox = Table(
    "boincserver_outbox", metadata, Column("seq", Integer, primary_key=True, autoincrement=True),
    _int("workunitid"), _int("batch"),
    UniqueConstraint("workunitid", name="outbox_workunitid"), sqlite_autoincrement=True,
)  # fmt: skip
Index("outbox_batch_seq", boincserver_outbox.c.batch, boincserver_outbox.c.seq)

# --- since version 2 of the schema ------------------------------------------------------------------------------------

consent_type = Table(
    "consent_type", metadata, _id(), _name("shortname", 191), _name("description", 255), _int("enabled"),
    _int("project_specific"), _int("privacypref"),
    UniqueConstraint("shortname", name="consent_type_shortname"),
)  # fmt: skip

consent = Table(
    "consent", metadata, _id(), _int("userid"), _int("consent_type_id"), _int("consent_time"), _small("consent_flag"),
    _small("consent_not_required"), _name("source", 255),
    Index("consent_userid", "userid"),
)  # fmt: skip

token = Table(
    "token", metadata, Column("token", String(64), primary_key=True), _int("userid"),
    Column("type", String(1), nullable=False), _int("create_time"), _int("expire_time"),
)  # fmt: skip

boincserver_invitation = Table(
    "boincserver_invitation", metadata, Column("code", String(64), primary_key=True), _int("create_time"),
    _int("expire_time"), _int("uses_left", 1), _name("note"),
)  # fmt: skip

# An id is never given twice, also where the last row was purged, or lost and its database restored.
for _table in metadata.tables.values():
    if "id" in _table.columns:
        _table.dialect_options["sqlite"]["autoincrement"] = True
