//! The Helm chart of `examples/helm`, rendered by Helm's own library.
//!
//! `HELM` names the folder that has that library and the schemas of Kubernetes, in `python`. `.ci/run` puts them there.

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::skipped;

fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/helm/bartizan")
}

/// What the chart makes of values: its objects, what is wrong with them, or why there are none.
struct Rendered(Value);

impl Rendered {
    /// The only object of a kind, or null.
    fn object(&self, kind: &str) -> &Value {
        let mut found = self.0["objects"].as_array().unwrap().iter().filter(|object| object["kind"] == kind);
        let object = found.next().unwrap_or(&Value::Null);
        assert!(found.next().is_none(), "more than one {kind}");
        object
    }

    fn pod(&self) -> &Value {
        &self.object("Deployment")["spec"]["template"]
    }

    fn container(&self) -> &Value {
        &self.pod()["spec"]["containers"][0]
    }

    fn error(&self) -> &str {
        self.0["error"].as_str().unwrap_or_default()
    }
}

/// Renders the chart with each of these values. All objects are valid, and the chart has no faults. None without Helm's library.
#[track_caller]
fn render(values: &[Value]) -> Option<Vec<Rendered>> {
    let Some(folder) = std::env::var_os("HELM") else {
        skipped("there is no library of Helm: set HELM to the folder that `.ci/run` fills");
        return None;
    };
    let mut python = Command::new("python3");
    python.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/helm/render.py")).arg(chart());
    python.env("PYTHONPATH", Path::new(&folder).join("python")).env("PYTHONDONTWRITEBYTECODE", OsStr::new("1"));
    let mut child = python.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(json!(values).to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["lint"], json!([]));
    let rendered: Vec<_> = answer["rendered"].as_array().unwrap().iter().cloned().map(Rendered).collect();
    assert_eq!(rendered.len(), values.len());
    for (one, values) in rendered.iter().zip(values) {
        assert_eq!(one.0["invalid"], json!([]), "{values}");
    }
    Some(rendered)
}

/// Values with a policy that listens there, with this `admin`.
fn listening(listen: &str, admin: &str) -> Value {
    json!({"policy": format!("version: 1\nlisten: {listen}\nadmin: {admin}\n")})
}

/// All that the chart has, at once.
fn everything() -> Value {
    json!({
        "policyKind": "Secret",
        "files": {"order.json": "{\"type\": \"object\", \"description\": \"<&>\"}"},
        "image": {"digest": format!("sha256:{}", "ab".repeat(32))},
        "imagePullSecrets": [{"name": "registry"}],
        "autoscaling": {"enabled": true},
        "env": [{"name": "A", "value": "b"}],
        "envFrom": [{"secretRef": {"name": "c"}}],
        "service": {"type": "LoadBalancer", "port": 8443, "annotations": {"a": "b"}},
        "serviceAccount": {"annotations": {"a": "b"}, "token": true},
        "networkPolicy": {"clients": [{"podSelector": {}}], "egress": [{}]},
        "serviceMonitor": {"enabled": true, "labels": {"release": "prometheus"}},
        "state": {"persistentVolumeClaim": {"claimName": "bartizan"}},
        "volumes": [{"name": "ca", "configMap": {"name": "vault-ca"}}],
        "volumeMounts": [{"name": "ca", "mountPath": "/etc/vault"}],
        "podAnnotations": {"a": "b"}, "podLabels": {"team": "edge"}, "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"operator": "Exists"}], "priorityClassName": "high",
        "affinity": {"nodeAffinity": {}},
    })
}

#[test]
fn the_pods_run_with_no_more_rights_than_they_need() {
    let Some(rendered) = render(&[json!({}), everything()]) else { return };
    for one in &rendered {
        let (pod, container) = (&one.pod()["spec"], one.container());
        assert_eq!(
            (&pod["securityContext"]["runAsNonRoot"], pod["containers"].as_array().unwrap().len()),
            (&json!(true), 1)
        );
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
        let restricted = json!({
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"]},
        });
        assert_eq!(container["securityContext"], restricted);
        // Longer than it waits for load balancers and drains.
        let seconds = container["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64().unwrap();
        assert!(pod["terminationGracePeriodSeconds"].as_u64().unwrap() > seconds + 30);
        assert_eq!(one.object("PodDisruptionBudget")["spec"]["maxUnavailable"], 1);
        // A volume that is mounted by a file's name is never updated.
        assert!(container["volumeMounts"].as_array().unwrap().iter().all(|mount| mount["subPath"].is_null()));
    }
    let [plain, full] = &rendered[..] else { panic!("two were asked for") };
    assert_eq!(plain.pod()["spec"]["automountServiceAccountToken"], false);
    assert_eq!(full.pod()["spec"]["automountServiceAccountToken"], true);
    assert_eq!((plain.object("HorizontalPodAutoscaler"), plain.object("ServiceMonitor")), (&Value::Null, &Value::Null));
    // Two that count replicas would undo each other.
    assert!(
        full.object("HorizontalPodAutoscaler").is_object() && full.object("Deployment")["spec"]["replicas"].is_null()
    );
    assert!(full.container()["image"].as_str().unwrap().contains("bartizan@sha256:abab"));
}

/// Mounts what is rendered as the kubelet does, and checks the policy there.
#[test]
fn the_policy_that_is_mounted_is_valid_and_a_changed_one_is_a_rollout_if_so_wanted() {
    let text = std::fs::read_to_string(chart().join("values.yaml")).unwrap();
    let policy = text.split_once("\npolicy: |\n").unwrap().1.split_once("\n\n").unwrap().0.replace("\n  ", "\n");
    let policy = policy.trim_start();
    let changed = policy.replace("rate: 10/s", "rate: 11/s");
    assert_ne!(policy, changed);
    let reload = |policy: &str| {
        let watching = policy.replace("watch: 5s", "watch: { every: 5s, policy: true }");
        json!({"policy": watching, "onPolicyChange": "reload"})
    };
    let values = [json!({}), json!({"policy": changed}), reload(policy), reload(&changed), everything()];
    let Some(rendered) = render(&values) else { return };
    let checksum = |one: &Rendered| one.pod()["metadata"]["annotations"]["checksum/policy"].clone();
    assert!(checksum(&rendered[0]).is_string());
    assert_ne!(checksum(&rendered[0]), checksum(&rendered[1]));
    assert_eq!(rendered[2].pod(), rendered[3].pod());
    assert_ne!(rendered[2].object("ConfigMap"), rendered[3].object("ConfigMap"));
    assert_ne!(checksum(&rendered[4]), checksum(&rendered[0]), "other files are a change as well");

    for (one, kind, key) in [(&rendered[0], "ConfigMap", "data"), (&rendered[4], "Secret", "stringData")] {
        let folder = tempfile::TempDir::new().unwrap();
        for (name, text) in one.object(kind)[key].as_object().unwrap() {
            std::fs::write(folder.path().join(name), text.as_str().unwrap()).unwrap();
        }
        let sources = &one.pod()["spec"]["volumes"][0]["projected"]["sources"];
        for secret in sources.as_array().unwrap().iter().filter_map(|source| source["secret"]["items"].as_array()) {
            for path in secret.iter().map(|item| folder.path().join(item["path"].as_str().unwrap())) {
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08").unwrap();
            }
        }
        let mut check = Command::new(env!("CARGO_BIN_EXE_bartizan"));
        let output = check.arg("check").arg(folder.path().join("policy.yaml")).output().unwrap();
        assert_eq!(
            (output.status.code(), String::from_utf8(output.stderr).unwrap()),
            (Some(0), String::new()),
            "{kind}"
        );
    }
}

#[test]
fn ports_and_probes_follow_from_the_policy() {
    let tls = "{ address: \"0.0.0.0:8443\", tls: { certificate: a.pem, key: b.pem } }";
    let plain = "{ address: \"[::]:8080\" }";
    let values = [
        listening(&format!("[{plain}]"), "{ address: \"0.0.0.0:9901\" }"),
        listening(
            &format!("[{tls}, {plain}, {{ socket: {{ path: a.sock }} }}]"),
            "{ address: \"0.0.0.0:9902\", tls: { certificate: a.pem, key: b.pem } }",
        ),
        listening(&format!("[{plain}]"), "{ socket: { path: /run/bartizan/admin.sock } }"),
    ];
    let Some(rendered) = render(&values) else { return };
    let probe = |one: &Rendered, name: &str| one.container()[name]["httpGet"].clone();
    let get = |path: &str, scheme: &str| json!({"path": path, "port": "admin", "scheme": scheme});
    let ports = |one: &Rendered| (one.container()["ports"].clone(), one.object("Service")["spec"]["ports"].clone());
    let port = |name: &str, port: u16| json!({"name": name, "containerPort": port});
    let serves = |name: &str, port: u16| json!({"name": name, "port": port, "targetPort": name});

    assert_eq!(ports(&rendered[0]), (json!([port("http", 8080), port("admin", 9901)]), json!([serves("http", 80)])));
    assert_eq!(probe(&rendered[0], "readinessProbe"), get("/readyz", "HTTP"));
    assert_eq!(probe(&rendered[0], "livenessProbe"), get("/healthz", "HTTP"));

    let listeners = [port("https", 8443), port("http-8080", 8080), port("admin", 9902)];
    assert_eq!(ports(&rendered[1]), (json!(listeners), json!([serves("https", 443), serves("http-8080", 8080)])));
    assert_eq!(probe(&rendered[1], "readinessProbe"), get("/readyz", "HTTPS"));

    // Nobody outside of the pod reaches a socket; the kubelet runs a command.
    assert_eq!(ports(&rendered[2]).0, json!([port("http", 8080)]));
    let command = |name: &str| rendered[2].container()[name]["exec"]["command"].clone();
    let health = ["/usr/bin/bartizan", "health", "--policy", "/etc/bartizan/policy.yaml"];
    assert_eq!(command("readinessProbe"), json!(health));
    assert_eq!(command("livenessProbe"), json!([&health[..], &["--live"]].concat()));
    let ingress = |one: &Rendered| one.object("NetworkPolicy")["spec"]["ingress"].as_array().unwrap().len();
    assert_eq!((ingress(&rendered[0]), ingress(&rendered[2])), (2, 1));
}

#[test]
fn values_that_could_not_work_are_refused_with_what_to_write() {
    let (open, admin) = ("[{ address: \"0.0.0.0:8080\" }]", "{ address: \"0.0.0.0:9901\" }");
    let with = |mut values: Value, key: &str, value: Value| {
        values[key] = value;
        values
    };
    let cases = [
        (listening("[{ address: \"127.0.0.1:8080\" }]", admin), "write `0.0.0.0:8080`"),
        (listening("[{ address: \"0.0.0.0:0\" }]", admin), "must be a number"),
        (listening("[{ socket: { path: a.sock } }]", admin), "no `listen` with an address"),
        (listening(open, "{ address: \"127.0.0.1:9901\" }"), "or a `socket` instead"),
        (listening(open, "{}"), "no `admin`"),
        (
            listening(open, "{ address: \"0.0.0.0:9901\", tls: { client_certificate: required } }"),
            "client_certificate: optional",
        ),
        (json!({"policy": "a: [\n"}), "is no YAML"),
        (json!({"onPolicyChange": "reload"}), "every: 5s, policy: true"),
        (json!({"policy": ""}), "policy"),
        (json!({"replica": 3}), "replica"),
        (json!({"files": {"policy.yaml": ""}}), "the policy is `policy`"),
        (json!({"files": {"schemas/a.json": ""}}), "schemas/a.json"),
        (json!({"image": {"digest": "sha256:abc"}}), "digest"),
        (
            with(listening(open, "{ socket: { path: a.sock } }"), "serviceMonitor", json!({"enabled": true})),
            "Prometheus does not reach a socket",
        ),
    ];
    let values: Vec<Value> = cases.iter().map(|(values, _)| values.clone()).collect();
    let Some(rendered) = render(&values) else { return };
    for (one, (values, reported)) in rendered.iter().zip(&cases) {
        assert!(one.error().contains(reported), "{values}: {}", one.error());
    }
}

#[test]
fn the_chart_has_the_version_of_the_binary() {
    let text = std::fs::read_to_string(chart().join("Chart.yaml")).unwrap();
    assert!(text.lines().any(|line| line == concat!("appVersion: ", env!("CARGO_PKG_VERSION"))), "{text}");
}
