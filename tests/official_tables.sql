-- The official server's tables that a submitter, a validator and an assimilator touch, or that go along with them:
-- their published names, types and keys, as of server version 1.1.
CREATE TABLE platform (
    id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, create_time INT NOT NULL, name VARCHAR(191) NOT NULL,
    user_friendly_name VARCHAR(254) NOT NULL, deprecated TINYINT NOT NULL DEFAULT 0, UNIQUE (name)
) ENGINE=InnoDB;
CREATE TABLE app (
    id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, create_time INT NOT NULL, name VARCHAR(191) NOT NULL,
    min_version INT NOT NULL DEFAULT 0, deprecated SMALLINT NOT NULL DEFAULT 0, user_friendly_name VARCHAR(254) NOT NULL,
    homogeneous_redundancy SMALLINT NOT NULL DEFAULT 0, weight DOUBLE NOT NULL DEFAULT 1,
    beta SMALLINT NOT NULL DEFAULT 0, target_nresults SMALLINT NOT NULL DEFAULT 0,
    min_avg_pfc DOUBLE NOT NULL DEFAULT 1, host_scale_check TINYINT NOT NULL DEFAULT 0,
    homogeneous_app_version TINYINT NOT NULL DEFAULT 0, non_cpu_intensive TINYINT NOT NULL DEFAULT 0,
    locality_scheduling INT NOT NULL DEFAULT 0, n_size_classes SMALLINT NOT NULL DEFAULT 0,
    fraction_done_exact TINYINT NOT NULL DEFAULT 0, UNIQUE (name)
) ENGINE=InnoDB;
CREATE TABLE app_version (
    id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, create_time INT NOT NULL, appid INT NOT NULL, version_num INT NOT NULL,
    platformid INT NOT NULL, xml_doc MEDIUMBLOB, min_core_version INT NOT NULL DEFAULT 0,
    max_core_version INT NOT NULL DEFAULT 0, deprecated TINYINT NOT NULL DEFAULT 0,
    plan_class VARCHAR(128) NOT NULL DEFAULT '', pfc_n DOUBLE NOT NULL DEFAULT 0, pfc_avg DOUBLE NOT NULL DEFAULT 0,
    pfc_scale DOUBLE NOT NULL DEFAULT 0, expavg_credit DOUBLE NOT NULL DEFAULT 0, expavg_time DOUBLE NOT NULL DEFAULT 0,
    beta TINYINT NOT NULL DEFAULT 0, UNIQUE apvp (appid, platformid, version_num, plan_class)
) ENGINE=InnoDB;
CREATE TABLE user (
    id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, create_time INT NOT NULL, email_addr VARCHAR(191) NOT NULL,
    name VARCHAR(191), authenticator VARCHAR(191), country VARCHAR(254), postal_code VARCHAR(254),
    total_credit DOUBLE NOT NULL, expavg_credit DOUBLE NOT NULL, expavg_time DOUBLE NOT NULL, global_prefs BLOB,
    project_prefs BLOB, teamid INT NOT NULL, venue VARCHAR(254) NOT NULL, url VARCHAR(254), send_email SMALLINT NOT NULL,
    show_hosts SMALLINT NOT NULL, posts SMALLINT NOT NULL, seti_id INT NOT NULL, seti_nresults INT NOT NULL,
    seti_last_result_time INT NOT NULL, seti_total_cpu DOUBLE NOT NULL, signature VARCHAR(254),
    has_profile SMALLINT NOT NULL, cross_project_id VARCHAR(254) NOT NULL, passwd_hash VARCHAR(254) NOT NULL,
    email_validated SMALLINT NOT NULL, donated SMALLINT NOT NULL, login_token CHAR(32) NOT NULL DEFAULT '',
    login_token_time DOUBLE NOT NULL DEFAULT 0, previous_email_addr VARCHAR(254) NOT NULL DEFAULT '',
    email_addr_change_time DOUBLE NOT NULL DEFAULT 0, UNIQUE (email_addr), UNIQUE (authenticator), UNIQUE (name),
    KEY ind_tid (teamid), KEY user_tot (total_credit), KEY user_avg (expavg_credit)
) ENGINE=InnoDB;
CREATE TABLE team (
    id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, create_time INT NOT NULL, userid INT NOT NULL,
    name VARCHAR(191) NOT NULL, name_lc VARCHAR(254), url VARCHAR(254), type INT NOT NULL, name_html VARCHAR(254),
    description TEXT, nusers INT NOT NULL, country VARCHAR(254), total_credit DOUBLE NOT NULL,
    expavg_credit DOUBLE NOT NULL, expavg_time DOUBLE NOT NULL, seti_id INT NOT NULL, ping_user INT NOT NULL,
    ping_time INT UNSIGNED NOT NULL, joinable TINYINT NOT NULL DEFAULT 1, mod_time TIMESTAMP DEFAULT CURRENT_TIMESTAMP
    ON UPDATE CURRENT_TIMESTAMP, UNIQUE (name)
) ENGINE=InnoDB;
CREATE TABLE host (
    id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, create_time INT NOT NULL, userid INT NOT NULL, rpc_seqno INT NOT NULL,
    rpc_time INT NOT NULL, total_credit DOUBLE NOT NULL, expavg_credit DOUBLE NOT NULL, expavg_time DOUBLE NOT NULL,
    timezone INT NOT NULL, domain_name VARCHAR(254), serialnum VARCHAR(254), last_ip_addr VARCHAR(254),
    nsame_ip_addr INT NOT NULL, on_frac DOUBLE NOT NULL, connected_frac DOUBLE NOT NULL, active_frac DOUBLE NOT NULL,
    cpu_efficiency DOUBLE NOT NULL, duration_correction_factor DOUBLE NOT NULL, p_ncpus INT NOT NULL,
    p_vendor VARCHAR(254), p_model VARCHAR(254), p_fpops DOUBLE NOT NULL, p_iops DOUBLE NOT NULL,
    p_membw DOUBLE NOT NULL, os_name VARCHAR(254), os_version VARCHAR(254), m_nbytes DOUBLE NOT NULL,
    m_cache DOUBLE NOT NULL, m_swap DOUBLE NOT NULL, d_total DOUBLE NOT NULL, d_free DOUBLE NOT NULL,
    d_boinc_used_total DOUBLE NOT NULL, d_boinc_used_project DOUBLE NOT NULL, d_boinc_max DOUBLE NOT NULL,
    n_bwup DOUBLE NOT NULL, n_bwdown DOUBLE NOT NULL, credit_per_cpu_sec DOUBLE NOT NULL, venue VARCHAR(254) NOT NULL,
    nresults_today INT NOT NULL, avg_turnaround DOUBLE NOT NULL, host_cpid VARCHAR(254), external_ip_addr VARCHAR(254),
    max_results_day INT NOT NULL, error_rate DOUBLE NOT NULL DEFAULT 0, product_name VARCHAR(254) NOT NULL,
    gpu_active_frac DOUBLE NOT NULL, p_ngpus INT NOT NULL, p_gpu_fpops DOUBLE NOT NULL, misc TEXT NOT NULL DEFAULT '',
    KEY host_userid_cpid (userid, host_cpid), KEY host_domain_name (domain_name)
) ENGINE=InnoDB;
CREATE TABLE host_app_version (
    host_id INT NOT NULL, app_version_id INT NOT NULL, pfc_n DOUBLE NOT NULL, pfc_avg DOUBLE NOT NULL,
    et_n DOUBLE NOT NULL, et_avg DOUBLE NOT NULL, et_var DOUBLE NOT NULL, et_q DOUBLE NOT NULL,
    max_jobs_per_day INT NOT NULL, n_jobs_today INT NOT NULL, turnaround_n DOUBLE NOT NULL,
    turnaround_avg DOUBLE NOT NULL, turnaround_var DOUBLE NOT NULL, turnaround_q DOUBLE NOT NULL,
    consecutive_valid INT NOT NULL, UNIQUE hap (host_id, app_version_id)
) ENGINE=InnoDB;
CREATE TABLE workunit (
    id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, create_time INT NOT NULL, appid INT NOT NULL, name VARCHAR(191) NOT NULL,
    xml_doc BLOB, batch INT NOT NULL, rsc_fpops_est DOUBLE NOT NULL, rsc_fpops_bound DOUBLE NOT NULL,
    rsc_memory_bound DOUBLE NOT NULL, rsc_disk_bound DOUBLE NOT NULL, need_validate SMALLINT NOT NULL,
    canonical_resultid INT NOT NULL, canonical_credit DOUBLE NOT NULL, transition_time INT NOT NULL,
    delay_bound INT NOT NULL, error_mask INT NOT NULL, file_delete_state INT NOT NULL, assimilate_state INT NOT NULL,
    hr_class INT NOT NULL, opaque DOUBLE NOT NULL, min_quorum INT NOT NULL, target_nresults INT NOT NULL,
    max_error_results INT NOT NULL, max_total_results INT NOT NULL, max_success_results INT NOT NULL,
    result_template_file VARCHAR(63) NOT NULL, priority INT NOT NULL, mod_time TIMESTAMP DEFAULT CURRENT_TIMESTAMP
    ON UPDATE CURRENT_TIMESTAMP, rsc_bandwidth_bound DOUBLE NOT NULL, fileset_id INT NOT NULL,
    app_version_id INT NOT NULL, transitioner_flags TINYINT NOT NULL, size_class SMALLINT NOT NULL DEFAULT -1,
    keywords VARCHAR(254) NOT NULL, app_version_num INT NOT NULL, UNIQUE (name), KEY wu_val (appid, need_validate),
    KEY wu_timeout (transition_time), KEY wu_filedel (file_delete_state), KEY wu_assim (appid, assimilate_state),
    KEY wu_batch (batch)
) ENGINE=InnoDB;
CREATE TABLE result (
    id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, create_time INT NOT NULL, workunitid INT NOT NULL,
    server_state INT NOT NULL, outcome INT NOT NULL, client_state INT NOT NULL, hostid INT NOT NULL, userid INT NOT NULL,
    report_deadline INT NOT NULL, sent_time INT NOT NULL, received_time INT NOT NULL, name VARCHAR(191) NOT NULL,
    cpu_time DOUBLE NOT NULL, xml_doc_in BLOB, xml_doc_out BLOB, stderr_out BLOB, batch INT NOT NULL,
    file_delete_state INT NOT NULL, validate_state INT NOT NULL, claimed_credit DOUBLE NOT NULL,
    granted_credit DOUBLE NOT NULL, opaque DOUBLE NOT NULL, random INT NOT NULL, app_version_num INT NOT NULL,
    appid INT NOT NULL, exit_status INT NOT NULL, teamid INT NOT NULL, priority INT NOT NULL,
    mod_time TIMESTAMP DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP, elapsed_time DOUBLE NOT NULL,
    flops_estimate DOUBLE NOT NULL, app_version_id INT NOT NULL, runtime_outlier TINYINT NOT NULL,
    size_class SMALLINT NOT NULL DEFAULT -1, peak_working_set_size DOUBLE NOT NULL, peak_swap_size DOUBLE NOT NULL,
    peak_disk_usage DOUBLE NOT NULL, UNIQUE (name), KEY res_wuid (workunitid), KEY ind_res_st (server_state, priority),
    KEY res_app_state (appid, server_state), KEY res_filedel (file_delete_state), KEY res_userid_id (userid, id),
    KEY res_userid_val (userid, validate_state), KEY res_hostid_id (hostid, id), KEY res_batch (batch)
) ENGINE=InnoDB;
CREATE TABLE batch (
    id SERIAL PRIMARY KEY, user_id INT NOT NULL, create_time INT NOT NULL, logical_start_time DOUBLE NOT NULL,
    logical_end_time DOUBLE NOT NULL, est_completion_time DOUBLE NOT NULL, njobs INT NOT NULL,
    fraction_done DOUBLE NOT NULL, nerror_jobs INT NOT NULL, state INT NOT NULL, completion_time DOUBLE NOT NULL,
    credit_estimate DOUBLE NOT NULL, credit_canonical DOUBLE NOT NULL, credit_total DOUBLE NOT NULL,
    name VARCHAR(255) NOT NULL, app_id INT NOT NULL, project_state INT NOT NULL, description VARCHAR(255) NOT NULL,
    expire_time DOUBLE NOT NULL
) ENGINE=InnoDB;
CREATE TABLE msg_from_host (
    id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, create_time INT NOT NULL, hostid INT NOT NULL,
    variety VARCHAR(254) NOT NULL, handled SMALLINT NOT NULL, xml MEDIUMTEXT, KEY message_handled (handled),
    KEY message_hostid (hostid)
) ENGINE=InnoDB;
