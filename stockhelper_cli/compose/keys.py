"""The keys of a compose file that stockhelper supports: one table for each structure.

A row says how a key is written, merged and read (its form), whether it counts in the config hash, when Compose
leaves it out of its canonical form, and how it is created in the engine. The order is that of compose-go's Go
structures, on which the hash depends. To support another key, add its row here (and one in the README's table).

What the specification knows and this table does not is refused with file, line and key. `privileged: true`, the
host's network and the engine's socket are refused because each of them hands the machine to the container.
"""

from __future__ import annotations

from stockhelper_cli.compose import body, values
from stockhelper_cli.compose.body import in_config, in_host
from stockhelper_cli.compose.forms import (
    BOOLEAN,
    CODE,
    DURATION,
    FLOAT,
    INTEGER,
    NATURAL,
    SIZE,
    TEXT,
    Arguments,
    Command,
    Key,
    ListOf,
    MapOf,
    Omit,
    Options,
    Pairs,
    Refused,
    Scalar,
    Struct,
    Test,
    Variables,
    before_equals,
)
from stockhelper_cli.compose.mounts import Mounts, SecretMount, secret_name
from stockhelper_cli.compose.ports import Ports
from stockhelper_cli.compose.shorthand import (
    Attachments,
    BuildOrContext,
    Dependencies,
    EnvFiles,
    Hosts,
    Logging,
    Pools,
    Servers,
    Ulimit,
)

#: compose-go's BuildConfig.
BUILD = BuildOrContext(
    Key("context", TEXT),
    Key("dockerfile", TEXT),
    Key("args", Arguments()),
    Key("labels", Pairs()),
    Key("cache_from", ListOf(repeats=True)),
    Key("no_cache", BOOLEAN),
    Key("pull", BOOLEAN),
    Key("target", TEXT),
)

#: compose-go's HealthCheckConfig.
HEALTHCHECK = Struct(
    Key("test", Test()),
    Key("timeout", DURATION, omit=Omit.UNSET),
    Key("interval", DURATION, omit=Omit.UNSET),
    Key("retries", NATURAL, omit=Omit.UNSET),
    Key("start_period", DURATION, omit=Omit.UNSET),
    Key("start_interval", DURATION, omit=Omit.UNSET),
    Key("disable", BOOLEAN),
)

#: compose-go's Resources, and DeployConfig: of the keys for a swarm, only those that limit a container.
RESOURCES = Struct(
    Key("limits", Struct(Key("cpus", FLOAT), Key("memory", SIZE), Key("pids", INTEGER)), omit=Omit.UNSET),
    Key("reservations", Struct(Key("memory", SIZE)), omit=Omit.UNSET),
)
DEPLOY = Struct(
    Key("resources", RESOURCES, omit=Omit.NEVER, default={}),
    Key("placement", Struct(), omit=Omit.NEVER, default={}),
)

#: A name in the engine. Compose takes an empty one for one, and then creates something that has none.
NAME = Scalar(values.parse_name)

#: The older form, a mapping with the name, is refused: Compose warns of it.
EXTERNAL = Scalar(values.parse_external)

#: `if_not_present` is the older word for `missing`.
PULL_POLICY = Scalar(lambda text: "missing" if text == "if_not_present" else text)

#: compose-go's ServiceConfig.
SERVICE = Struct(
    Key("profiles", ListOf(unique=before_equals), hashed=False),
    Key("build", BUILD, hashed=False),
    Key("cap_add", ListOf(unique=before_equals), create=in_host("CapAdd", body.capabilities)),
    Key("cap_drop", ListOf(unique=before_equals), create=in_host("CapDrop", body.capabilities)),
    Key("cpus", FLOAT, create=in_host("NanoCpus", body.billionths)),
    Key("cpuset", TEXT, create=in_host("CpusetCpus")),
    Key("cpu_shares", INTEGER, create=in_host("CpuShares")),
    Key("command", Command(), omit=Omit.NEVER, create=in_config("Cmd")),
    Key("container_name", TEXT),
    Key("depends_on", Dependencies(), hashed=False),
    Key("deploy", DEPLOY, omit=Omit.UNSET, create=body.limits),
    Key("dns", Servers(), create=in_host("Dns")),
    Key("dns_opt", ListOf(unique=before_equals), create=in_host("DnsOptions")),
    Key("dns_search", ListOf(unique=before_equals), create=in_host("DnsSearch")),
    Key("domainname", TEXT, create=in_config("Domainname")),
    Key("entrypoint", Command(), omit=Omit.NEVER, create=in_config("Entrypoint")),
    Key("environment", Variables(), create=in_config("Env", body.environment)),
    Key("env_file", EnvFiles()),
    Key("expose", ListOf(CODE, unique=before_equals), create=body.expose),
    Key("extra_hosts", Hosts(), create=in_host("ExtraHosts", body.extra_hosts)),
    Key("group_add", ListOf(CODE), create=in_host("GroupAdd")),
    Key("hostname", TEXT, create=in_config("Hostname")),
    Key("healthcheck", HEALTHCHECK, omit=Omit.UNSET, create=body.healthcheck),
    Key("image", TEXT),
    Key("init", BOOLEAN, omit=Omit.UNSET, create=in_host("Init")),
    Key("labels", Pairs()),
    Key("logging", Logging(Key("driver", TEXT), Key("options", Options())), omit=Omit.UNSET, create=body.logging),
    Key("mem_limit", SIZE, create=in_host("Memory", int)),
    Key("mem_reservation", SIZE, create=in_host("MemoryReservation", int)),
    Key("memswap_limit", SIZE, create=in_host("MemorySwap", int)),
    Key(
        "network_mode",
        Refused("gives the container the network of the machine, or of another container", ("none", "bridge"), TEXT),
    ),
    Key("networks", Attachments()),
    Key("oom_score_adj", INTEGER, create=in_host("OomScoreAdj")),
    Key("pids_limit", INTEGER, create=in_host("PidsLimit")),
    Key("platform", TEXT),
    Key("ports", Ports(), create=body.ports),
    Key("privileged", Refused("hands the whole machine to the container", (False,), BOOLEAN)),
    Key("pull_policy", PULL_POLICY, hashed=False),
    Key("read_only", BOOLEAN, create=in_host("ReadonlyRootfs")),
    Key("restart", Scalar(values.parse_restart), create=in_host("RestartPolicy", body.restart_policy)),
    Key("secrets", ListOf(SecretMount(), unique=secret_name), create=body.secrets),
    Key("security_opt", ListOf(Scalar(values.parse_security)), create=in_host("SecurityOpt")),
    Key("shm_size", SIZE, create=in_host("ShmSize", int)),
    Key("stdin_open", BOOLEAN, create=in_config("OpenStdin")),
    Key("stop_grace_period", DURATION, omit=Omit.UNSET, create=in_config("StopTimeout", body.whole_seconds)),
    Key("stop_signal", TEXT, create=in_config("StopSignal")),
    Key("sysctls", Pairs(), create=in_host("Sysctls")),
    Key("tmpfs", ListOf(unique=before_equals), create=in_host("Tmpfs", body.tmpfs)),
    Key("tty", BOOLEAN, create=in_config("Tty")),
    Key("ulimits", MapOf(Ulimit()), create=in_host("Ulimits", body.ulimits)),
    Key("user", TEXT, create=in_config("User")),
    Key("volumes", Mounts(), create=body.volumes),
    Key("working_dir", TEXT, create=in_config("WorkingDir")),
)

#: compose-go's IPAMPool, IPAMConfig and NetworkConfig.
POOL = Struct(Key("subnet", TEXT), Key("gateway", TEXT), Key("ip_range", TEXT), Key("aux_addresses", Pairs()))
IPAM = Struct(Key("driver", TEXT), Key("config", Pools(POOL)))
NETWORK = Struct(
    Key("name", NAME),
    Key("driver", TEXT),
    Key("driver_opts", Options()),
    Key("ipam", IPAM, omit=Omit.NEVER, default={}),
    Key("external", EXTERNAL),
    Key("internal", BOOLEAN),
    Key("attachable", BOOLEAN),
    Key("labels", Pairs()),
    Key("enable_ipv4", BOOLEAN, omit=Omit.UNSET),
    Key("enable_ipv6", BOOLEAN, omit=Omit.UNSET),
)

#: compose-go's VolumeConfig.
VOLUME = Struct(
    Key("name", NAME),
    Key("driver", TEXT),
    Key("driver_opts", Options()),
    Key("external", EXTERNAL),
    Key("labels", Pairs()),
)

#: compose-go's FileObjectConfig: a secret that is a file.
SECRET = Struct(Key("name", TEXT), Key("file", TEXT))

#: The whole file. `name` and `version` are looked at before.
FILE = Struct(
    Key("version", TEXT),
    Key("name", TEXT),
    Key("services", MapOf(SERVICE)),
    Key("networks", MapOf(NETWORK)),
    Key("volumes", MapOf(VOLUME)),
    Key("secrets", MapOf(SECRET)),
)
