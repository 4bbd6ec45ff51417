"""A configuration of nginx in front of a project: it serves downloads from the disk and passes everything else on."""

from __future__ import annotations

from urllib.parse import urlsplit

from boincserver import urls
from boincserver.errors import ConfigError
from boincserver.project import Project

__all__ = ["nginx_configuration"]

_TEXT = """\
# nginx in front of the BOINC project {url}
# It belongs into the http block: save it as /etc/nginx/conf.d/{name}.conf and reload nginx.
# {directory}/project.toml has to say: proxies = 1
server {{
    listen {port};
    server_name {host};
    client_max_body_size 0;        # the server behind has limits of its own
    proxy_request_buffering off;   # an upload that breaks off goes on from where it was

    location ~ "^{prefix}/download/([0-9a-f]+)/([^./][^/]*)$" {{
        alias "{directory}/download/$1/$2";
        types {{ }}
        default_type application/octet-stream;
        add_header Cache-Control "public, max-age=31536000, immutable";
    }}

    location {prefix}/ {{
        proxy_pass http://{behind};
        proxy_http_version 1.1;
        proxy_set_header Host $http_host;
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        proxy_read_timeout 300s;
    }}
}}
"""


def nginx_configuration(project: Project) -> str:
    """The server block for this project. For https let certbot, or you, add port 443 and the certificates to it."""
    directory = str(project.directory)
    if set(directory) & set('"$\\\n'):
        raise ConfigError(f"{directory}: nginx serves from no folder with quotes, dollars or backslashes in its name")
    found = urlsplit(project.config.url)
    host, port = found.hostname or "", found.port or 80
    address, behind = project.listen
    if (host, port) == (address, behind):
        raise ConfigError(
            f"{project.directory / 'project.toml'}: nginx and the server cannot both listen on {address}:{behind}; "
            f'give the server another port: listen = "{address}:{behind + 1}"'
        )
    return _TEXT.format(
        url=project.config.url,
        name=host,
        host=host,
        port=port,
        prefix=urls.path_of(project.config.url),
        directory=directory,
        behind=f"{address}:{behind}",
    )
