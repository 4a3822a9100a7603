# Reads ini files with the real Supervisor and prints what it made of each, one JSON object a
# line. Usage: /usr/bin/python3 dump.py FILE...
import json
import sys
import warnings

warnings.simplefilter('ignore')

from supervisor import events  # noqa: E402
from supervisor.datatypes import Automatic, RestartUnconditionally, RestartWhenExitUnexpected  # noqa: E402
from supervisor.options import EventListenerPoolConfig, FastCGIGroupConfig, ProcessConfig, ServerOptions  # noqa: E402


class Refused(Exception):
    pass


def plain(v):
    if v is Automatic:
        return 'AUTO'
    if v is RestartUnconditionally:
        return 'always'
    if v is RestartWhenExitUnexpected:
        return 'unexpected'
    if v is False:
        return False
    if isinstance(v, bool) or v is None or isinstance(v, (str, dict, list)):
        return v
    return int(v)


def group(g):
    d = {'name': g.name, 'priority': g.priority, 'kind': 'group', 'processes': []}
    if isinstance(g, EventListenerPoolConfig):
        d['kind'] = 'listener'
        d['buffer_size'] = g.buffer_size
        d['events'] = sorted(events.getEventNameByType(e) for e in g.pool_events)
    if isinstance(g, FastCGIGroupConfig):
        d['kind'] = 'fcgi'
        sock = g.socket_config
        d['socket'] = sock.url
        d['backlog'] = sock.backlog
        d['mode'] = getattr(sock, 'mode', None)
        d['owner'] = list(getattr(sock, 'owner', None) or (-1, -1))
    for p in g.process_configs:
        names = ProcessConfig.req_param_names + ProcessConfig.optional_param_names
        d['processes'].append({n: plain(getattr(p, n)) for n in names})
    return d


def load(path):
    o = ServerOptions()

    def usage(msg):
        raise Refused(str(msg))
    o.usage = usage
    o.realize(['-c', path], doc='')
    s = o.configroot.supervisord
    names = ['minfds', 'minprocs', 'directory', 'user', 'umask', 'logfile_maxbytes', 'logfile_backups', 'loglevel',
             'identifier', 'nodaemon', 'silent', 'nocleanup', 'strip_ansi', 'environment']
    servers = []
    for c in s.server_configs:
        c = dict(c)
        c['family'] = int(c['family'])
        c['chown'] = list(c['chown']) if 'chown' in c else None
        servers.append(c)
    return {
        'supervisord': {n: getattr(s, n) for n in names},
        'logfile': o.logfile, 'pidfile': o.pidfile, 'serverurl': o.serverurl,
        'servers': servers,
        'groups': [group(g) for g in s.process_group_configs],
        'no_match': sum(w.startswith('No file matches') for w in o.parse_warnings),
    }


for path in sys.argv[1:]:
    try:
        result = load(path)
    except Refused as e:
        result = {'error': str(e)}
    except Exception as e:  # Supervisor itself would end with a traceback
        result = {'error': 'traceback: %r' % e}
    result['path'] = path
    print(json.dumps(result))
