"""A Kubernetes API server of the loopback: it lists and watches InferencePools and their pods, for those whom the rendered
Roles allow it, and refuses everything else.
"""

import http.server
import json
import threading
import urllib.parse

POOLS = ("inference.networking.k8s.io", "inferencepools")
PODS = ("", "pods")


class Cluster:
    """The objects, who may see them, and the server."""

    def __init__(self, rendered):
        self.objects = {POOLS: [], PODS: []}
        self.rights = list(rights(rendered))
        self.refused = []
        self.ended = threading.Event()
        handler = type("Handler", (Handler,), {"cluster": self})
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def add_pool(self, name, namespace, address):
        """An InferencePool, and its pod at an address."""
        host, port = address.rsplit(":", 1)
        labels = {"app": name}
        spec = {"selector": {"matchLabels": labels}, "targetPorts": [{"number": int(port)}]}
        spec["endpointPickerRef"] = {"name": f"{name}-epp", "port": {"number": 9002}}
        self.objects[POOLS].append({"metadata": meta(name, namespace), "spec": spec})
        ready = {"type": "Ready", "status": "True"}
        pod = {
            "metadata": {**meta(f"{name}-0", namespace), "labels": labels},
            "spec": {"containers": [{"name": "vllm", "ports": [{"containerPort": int(port)}]}]},
            "status": {"phase": "Running", "podIP": host, "conditions": [ready]},
        }
        self.objects[PODS].append(pod)

    def kubeconfig(self, folder):
        server = f"http://127.0.0.1:{self.server.server_address[1]}"
        config = {
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u", "namespace": "signalbox"}}],
            "clusters": [{"name": "c", "cluster": {"server": server}}],
            "users": [{"name": "u", "user": {"token": "t"}}],
        }
        file = folder / "kubeconfig"
        file.write_text(json.dumps(config))
        return str(file)

    def end(self):
        self.ended.set()
        self.server.shutdown()


def meta(name, namespace):
    return {"name": name, "namespace": namespace, "resourceVersion": "1"}


def rights(objects):
    """What the gateway's ServiceAccount may do: (namespace, verb, group, resource)."""
    roles = {(o["metadata"]["namespace"], o["metadata"]["name"]): o["rules"] for o in objects if o["kind"] == "Role"}
    for binding in (o for o in objects if o["kind"] == "RoleBinding"):
        namespace = binding["metadata"]["namespace"]
        account = {"kind": "ServiceAccount", "name": "signalbox", "namespace": "signalbox"}
        if account in binding["subjects"]:
            for rule in roles[namespace, binding["roleRef"]["name"]]:
                for verb in rule["verbs"]:
                    for group in rule["apiGroups"]:
                        yield from ((namespace, verb, group, resource) for resource in rule["resources"])


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        parts = url.path.strip("/").split("/")
        group = parts[1] if parts[0] == "apis" else ""
        namespace, resource = parts[-2], parts[-1]
        verb = "watch" if query.get("watch") in ("1", "true") else "list"
        if (namespace, verb, group, resource) not in self.cluster.rights:
            self.cluster.refused.append(f"{verb} {self.path}")
            return self.answer(403, {"kind": "Status", "status": "Failure", "code": 403, "message": "forbidden"})
        if (group, resource) not in self.cluster.objects:
            return self.answer(404, {"kind": "Status", "status": "Failure", "code": 404, "message": "no such kind"})
        if verb == "watch":
            # Nothing ever changes.
            self.send_response(200)
            self.send_header("Connection", "close")
            self.end_headers()
            self.cluster.ended.wait()
            self.close_connection = True
            return None
        labels = dict(pair.split("=", 1) for pair in query.get("labelSelector", "").split(",") if pair)
        name = dict(pair.split("=", 1) for pair in query.get("fieldSelector", "").split(",") if pair).get("metadata.name")
        items = [
            item for item in self.cluster.objects[group, resource]
            if item["metadata"]["namespace"] == namespace
            and labels.items() <= item["metadata"].get("labels", {}).items()
            and name in (None, item["metadata"]["name"])
        ]
        return self.answer(200, {"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": items})

    def answer(self, status, body):
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        """Says nothing."""
