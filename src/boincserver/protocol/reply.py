"""The scheduler's reply: a frozen record in, the text for the client out."""

from __future__ import annotations

from dataclasses import dataclass

from boincserver.protocol.text import element, escape

__all__ = ["JobToSend", "Message", "SchedulerReply", "format_reply"]

SCHEDULER_VERSION = 722
"""From 507 on clients let preferences override those of the host; the number itself means little else."""


@dataclass(frozen=True, slots=True)
class Message:
    """A line for the volunteer: `low` goes to the event log, `notice` is shown to him."""

    text: str
    priority: str = "low"


@dataclass(frozen=True, slots=True)
class JobToSend:
    """A copy of a job, ready to travel."""

    result_name: str
    result_xml: str
    workunit_name: str
    workunit_xml: str
    app_name: str
    version_num: int
    platform: str
    plan_class: str
    report_deadline: int
    rsc_fpops_est: float
    rsc_fpops_bound: float
    rsc_memory_bound: float
    rsc_disk_bound: float


@dataclass(frozen=True, slots=True)
class SchedulerReply:
    """Everything that a reply may say; what is empty is left out."""

    project_name: str
    master_url: str
    hostid: int = 0
    userid: int = 0
    user_name: str = ""
    email_hash: str = ""
    cross_project_id: str = ""
    user_credit: tuple[float, float] = (0.0, 0.0)
    host_credit: tuple[float, float] = (0.0, 0.0)
    code_sign_key: str = ""
    code_sign_key_signature: str = ""
    messages: tuple[Message, ...] = ()
    acknowledged: tuple[str, ...] = ()
    aborted: tuple[str, ...] = ()
    aborted_if_not_started: tuple[str, ...] = ()
    unneeded_files: tuple[str, ...] = ()
    trickles_received: bool = False
    trickles_down: tuple[str, ...] = ()
    app_documents: tuple[str, ...] = ()
    jobs: tuple[JobToSend, ...] = ()
    request_delay: float = 0.0
    next_rpc_delay: float = 0.0


def format_reply(reply: SchedulerReply) -> bytes:
    """The text of a reply, one element on each line as the client's parser wants it."""
    parts = [
        "<scheduler_reply>\n",
        f"<scheduler_version>{SCHEDULER_VERSION}</scheduler_version>\n<dont_use_dcf/>\n",
        element("master_url", reply.master_url),
        # The client shows this text as it comes; `project.checked_name` keeps it free of markup.
        f"<project_name>{reply.project_name}</project_name>\n",
    ]
    if reply.request_delay:
        parts.append(f"<request_delay>{reply.request_delay:f}</request_delay>\n")
    if reply.next_rpc_delay:
        parts.append(f"<next_rpc_delay>{reply.next_rpc_delay:f}</next_rpc_delay>\n")
    parts += [f'<message priority="{m.priority}">{escape(m.text)}</message>\n' for m in reply.messages]
    if reply.userid:
        parts.append(_account(reply))
    if reply.hostid:
        parts.append(f"<hostid>{reply.hostid}</hostid>\n")
    if reply.code_sign_key:
        parts.append(f"<code_sign_key>\n{reply.code_sign_key}</code_sign_key>\n")
    if reply.code_sign_key_signature:
        parts.append(f"<code_sign_key_signature>\n{reply.code_sign_key_signature}</code_sign_key_signature>\n")
    parts += [f"<result_ack>\n<name>{name}</name>\n</result_ack>\n" for name in reply.acknowledged]
    parts += [f"<result_abort>\n<name>{name}</name>\n</result_abort>\n" for name in reply.aborted]
    parts += [
        f"<result_abort_if_not_started>\n<name>{name}</name>\n</result_abort_if_not_started>\n"
        for name in reply.aborted_if_not_started
    ]
    parts += [f"<delete_file_info>{name}</delete_file_info>\n" for name in reply.unneeded_files]
    if reply.trickles_received:
        parts.append("<message_ack/>\n")
    parts += reply.trickles_down
    parts += reply.app_documents
    sent: set[str] = set()
    for job in reply.jobs:
        if job.workunit_name not in sent:
            sent.add(job.workunit_name)
            parts.append(_workunit(job))
        parts.append(_result(job))
    parts.append("</scheduler_reply>\n")
    return "".join(parts).encode("utf-8")


def _account(reply: SchedulerReply) -> str:
    return (
        f"<userid>{reply.userid}</userid>\n{element('user_name', reply.user_name)}"
        f"<user_total_credit>{reply.user_credit[0]:f}</user_total_credit>\n"
        f"<user_expavg_credit>{reply.user_credit[1]:f}</user_expavg_credit>\n"
        f"<host_total_credit>{reply.host_credit[0]:f}</host_total_credit>\n"
        f"<host_expavg_credit>{reply.host_credit[1]:f}</host_expavg_credit>\n"
        f"<email_hash>{reply.email_hash}</email_hash>\n"
        f"<cross_project_id>{reply.cross_project_id}</cross_project_id>\n"
    )


def _workunit(job: JobToSend) -> str:
    head = (
        f"<workunit>\n<name>{job.workunit_name}</name>\n<app_name>{escape(job.app_name)}</app_name>\n"
        f"<rsc_fpops_est>{job.rsc_fpops_est:f}</rsc_fpops_est>\n"
        f"<rsc_fpops_bound>{job.rsc_fpops_bound:f}</rsc_fpops_bound>\n"
        f"<rsc_memory_bound>{job.rsc_memory_bound:f}</rsc_memory_bound>\n"
        f"<rsc_disk_bound>{job.rsc_disk_bound:f}</rsc_disk_bound>\n"
    )
    return job.workunit_xml.replace("<workunit>\n", head, 1)


def _result(job: JobToSend) -> str:
    plan = element("plan_class", job.plan_class) if job.plan_class else ""
    head = (
        f"<result>\n<name>{job.result_name}</name>\n<wu_name>{job.workunit_name}</wu_name>\n"
        f"<report_deadline>{job.report_deadline}</report_deadline>\n<report_immediately/>\n"
        f"<platform>{job.platform}</platform>\n<version_num>{job.version_num}</version_num>\n{plan}"
    )
    return job.result_xml.replace("<result>\n", head, 1)
