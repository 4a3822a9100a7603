"""Runs Supervisor's own classes on what a Go test sends as JSON on stdin, and prints what they did as JSON."""
import base64
import json
import os
import sys

from supervisor import dispatchers, events, loggers, options


def raw(text):
    return base64.b64decode(text)


def coded(data):
    return base64.b64encode(data).decode()


class Bag:
    def __init__(self, **kw):
        self.__dict__.update(kw)


class Options:
    strip_ansi = False
    loglevel = loggers.LevelsByName.INFO

    def __init__(self):
        self.logger = loggers.getLogger()

    def getLogger(self):
        return loggers.getLogger()


def rotate(job):
    log = loggers.getLogger()
    loggers.handle_file(log, job['path'], '%(message)s', rotating=bool(job['maxbytes']),
                        maxbytes=job['maxbytes'], backups=job['backups'])
    for chunk in job['chunks']:
        log.info(raw(chunk))
    log.close()
    return {}


def capture(job):
    return {'out': [capture_one(job, chunks) for chunks in job['cases']]}


def capture_one(job, chunks):
    if os.path.exists(job['path']):
        os.remove(job['path'])
    seen, logged = [], []
    opts = Options()
    opts.strip_ansi = job['strip']
    config = Bag(name='p', options=opts, stdout_logfile=job['path'], stdout_logfile_maxbytes=0, stdout_logfile_backups=0,
                 stdout_syslog=False, stdout_capture_maxbytes=job['maxbytes'], stdout_events_enabled=True,
                 stderr_events_enabled=False)
    process = Bag(config=config, pid=1)
    events.clear()
    events.subscribe(events.ProcessCommunicationStdoutEvent, lambda e: seen.append(coded(e.data)))
    events.subscribe(events.ProcessLogStdoutEvent, lambda e: logged.append(e.data))
    d = dispatchers.POutputDispatcher(process, events.ProcessCommunicationStdoutEvent, -1)
    for chunk in chunks:
        d.output_buffer += raw(chunk)
        d.record_output()
    with open(job['path'], 'rb') as f:
        return {'log': coded(f.read()), 'captured': seen, 'logged': coded(b''.join(logged))}


def strip(job):
    return {'out': [coded(dispatchers.stripEscapes(raw(c))) for c in job['chunks']]}


def read(job):
    out = []
    for offset, length in job['args']:
        try:
            data, err = coded(options.readFile(job['path'], offset, length)), ''
        except ValueError as why:
            data, err = '', why.args[0]
        text, size, overflow = options.tailFile(job['path'], offset, length)
        out.append({'read': data, 'err': err, 'tail': coded(text.encode()), 'next': size, 'overflow': overflow})
    return {'out': out}


job = json.load(sys.stdin)
os.umask(0o022)
json.dump(globals()[job['do']](job), sys.stdout)
