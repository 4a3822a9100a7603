"""What Python's xmlrpc.client and Supervisor's own interface make of the same things; JSON in, JSON out."""
import json
import sys
import xmlrpc.client as x

from supervisor import rpcinterface
from supervisor import xmlrpc as sx


def methods(_):
    system = sx.SystemNamespaceRPCInterface([('supervisor', rpcinterface.SupervisorNamespaceRPCInterface(None))])
    names = system.listMethods()
    return {'names': names, 'signatures': {n: system.methodSignature(n) for n in names}}


def dump(job):
    return {'out': [x.dumps((v,), methodresponse=True) for v in job['values']]}


def fault(job):
    return {'out': [sx.xmlrpc_marshal(x.Fault(e.code, e.text)) for e in (sx.RPCError(c, t) for c, t in job['faults'])]}


def call(job):
    server = x.ServerProxy(job['url'])
    out = []
    for method, params in job['calls']:
        try:
            out.append([getattr(server, method)(*params), None])
        except x.Fault as f:
            out.append([None, [f.faultCode, f.faultString]])
    return {'out': out}


job = json.load(sys.stdin)
json.dump(globals()[job['do']](job), sys.stdout)
