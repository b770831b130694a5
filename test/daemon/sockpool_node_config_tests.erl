%%% The daemon's configuration file, as `--check' judges it: what it takes, and in which words it says
%%% what is wrong.
-module(sockpool_node_config_tests).

-include_lib("eunit/include/eunit.hrl").

check_test_() ->
    case sockpool_c_daemon:is_built() of
        false -> [];
        true -> [{lists:sublist(Text, 80), fun() -> check(Text, Expected) end} || {Text, Expected} <- cases()]
    end.

cases() ->
    [{whole(), ok},
     {"{}", ok},
     {"{\"pools\": {}}", ok},
     {"", "line 1, column 0: "},
     {"{\"name\": 1", "line 1, column "},
     {"[]", ": must be an object"},
     {"{\"name\": \"a@b\", \"name\": \"a@b\"}", "duplicate object key"},
     {"{\"nam\": 1}", "nam: does not exist; there are name, cookie_file, listen, metrics, tick_time, pools"},
     {"{\"name\": \"pools\"}", "name: \"pools\" is not allowed; it must be a string NAME@HOST"},
     {"{\"name\": 5}", "name: 5 is not allowed; it must be a string NAME@HOST"},
     {"{\"cookie_file\": \"\"}", "cookie_file: \"\" is not allowed; it must be a file's path"},
     {"{\"listen\": \"host\"}", "listen: \"host\" is not allowed; it must be an IP address"},
     {"{\"tick_time\": 0}", "tick_time: 0 is not allowed; it must be an integer from 1 to 86400"},
     {"{\"tick_time\": 86401}", "tick_time: 86401 is not allowed"},
     {"{\"tick_time\": 86400}", ok},
     {"{\"pools\": []}", "pools: [] is not allowed; it must be an object"},
     {"{\"pools\": {\"p\": 5}}", "pools.p: 5 is not allowed; it must be an object of options"},
     {"{\"pools\": {\"\": {}}}", "pools.: a pool's name must be of 1 to 255 bytes"},
     {"{\"pools\": {\"undefined\": {}}}", "pools.undefined: a pool's name must"},
     {pool("\"port\": 1"), "pools.p.host: is missing; it must be an IP address"},
     {tcp("\"sise\": 1"), "pools.p.sise: does not exist; there are transport, host, port, "},
     {tcp("\"init\": 1"), "pools.p.init: cannot be given in a file"},
     {tcp("\"cookie\": \"c\""), "pools.p.cookie: cannot be given in a file"},
     {tcp("\"worker\": [\"m\", \"s3cret\"]"), "pools.p.worker: cannot be given in a file"},
     {tcp("\"worker_shutdown\": 5"), "pools.p.worker_shutdown: 5 is not allowed; it must be left out, because a node in C has no workers"},
     {tcp("\"abandoned\": \"reuse\""), "pools.p.abandoned: \"reuse\" is not allowed; it must be left out, because"},
     {tcp("\"worker_shutdown\": null, \"abandoned\": null"), ok},
     {pool("\"transport\": \"worker\""), "pools.p.transport: \"worker\" is not allowed; it must be one of tcp, tls, unix, node\n"},
     {tcp("\"connect_parallelism\": 1"), ok},
     {tcp("\"growth\": \"eager\", \"connect_parallelism\": null"), ok},
     {tcp("\"min_idle\": 2, \"start\": \"async\""), ok},
     {tcp("\"start\": [\"await\", 1, 1000]"), "pools.p.start: [\"await\",1,1000] is not allowed; it must be async, because"},
     {tcp("\"min_idle\": -1"), "pools.p.min_idle: -1 is not allowed; it must be an integer from 0 to 1000000"},
     {tcp("\"growth\": \"lazy\""), "pools.p.growth: \"lazy\" is not allowed; it must be one of expected, eager"},
     {tcp("\"pipeline\": 64, \"pipeline_bytes\": 1000, \"pipeline_stall\": \"infinity\""), ok},
     {tcp("\"pipeline\": 0"), "pools.p.pipeline: 0 is not allowed; it must be an integer from 1 to 4096"},
     {tcp("\"pipeline\": 2, \"size\": 65537"), "pools.p.pipeline: 2 is not allowed; it must be an integer from 1 to 4096"},
     {tcp("\"connect_parallelism\": 0"), "pools.p.connect_parallelism: 0 is not allowed; it must be an integer from 1 to 1000000"},
     {tcp("\"name\": \"p\""), "pools.p.name: cannot be given in a file"},
     {tcp("\"size\": \"10\""), "pools.p.size: \"10\" is not allowed; it must be an integer from 0 to"},
     {tcp("\"size\": 1.5"), "pools.p.size: 1.5 is not allowed"},
     {tcp("\"size\": 99999999999999999999"), "line 1, column "},
     {tcp("\"max_overflow\": 1000000"), "pools.p.size: 10, its default, is not allowed; it must be"},
     {tcp("\"checkout_timeout\": \"infinity\", \"max_hold\": \"infinity\""), ok},
     {tcp("\"checkout_timeout\": \"never\""), "pools.p.checkout_timeout: \"never\" is not allowed"},
     {tcp("\"sndbuf\": null"), ok},
     {tcp("\"nodelay\": false, \"keepalive\": true, \"strategy\": \"fifo\""), ok},
     {tcp("\"keepalive\": {\"idle\": 10, \"interval\": 2, \"count\": 3}, \"user_timeout\": 5000"), ok},
     {tcp("\"keepalive\": {}, \"user_timeout\": null"), ok},
     {tcp("\"keepalive\": {\"idle\": 0}"), "pools.p.keepalive: {\"idle\":0} is not allowed; it must be true, false, or a map"},
     {tcp("\"keepalive\": {\"idel\": 1}"), "pools.p.keepalive: {\"idel\":1} is not allowed; it must be true, false, or a map"},
     {tcp("\"health\": {\"send\": \"PING\\r\\n\", \"expect\": {\"prefix\": \"+PONG\"}, \"interval\": 100, \"timeout\": 1}"), ok},
     {tcp("\"health\": {\"send\": \"a\", \"expect\": \"b\"}"), ok},
     {tcp("\"health\": null"), ok},
     {tcp("\"health\": {\"send\": \"a\"}"), "pools.p.health: \"not_a_check\" is not allowed; it must be a map, or a list of"},
     {tcp("\"fail_fast\": true"), ok},
     {tcp("\"fail_fast\": 1"), "pools.p.fail_fast: 1 is not allowed; it must be one of true, "},
     {tcp("\"nodelay\": \"yes\""), "pools.p.nodelay: \"yes\" is not allowed; it must be one of true, "},
     {tcp("\"packet\": 4"), ok},
     {tcp("\"packet\": \"line\""), ok},
     {tcp("\"packet\": 3"), "pools.p.packet: 3 is not allowed; it must be one of raw, 0, 1, 2, 4, "},
     {tcp("\"packet\": \"resp\""), ok},
     {tcp("\"packet\": {\"fixed\": 5}"), ok},
     {tcp("\"packet\": {\"fixed\": 0}"), "pools.p.packet: {\"fixed\":0} is not allowed; it must be one of raw, "},
     {tcp("\"packet\": {\"fixed\": 2147483648}"), "pools.p.packet: {\"fixed\":2147483648} is not allowed"},
     {tcp("\"packet\": {\"fixed\": \"5\"}"), "pools.p.packet: {\"fixed\":\"5\"} is not allowed"},
     {tcp("\"packet\": {\"delimiter\": \"\\r\\n\"}"), ok},
     {tcp("\"packet\": {\"delimiter\": \"\"}"), "pools.p.packet: {\"delimiter\":\"\"} is not allowed"},
     {tcp("\"packet\": {\"delimiter\": \"" ++ lists:duplicate(33, $x) ++ "\"}"), "is not allowed; it must be one of raw, "},
     {tcp("\"packet\": {\"delimiter\": 10}"), "pools.p.packet: {\"delimiter\":10} is not allowed"},
     {tcp("\"packet\": {\"delimiter\": [\"a\"]}"), "pools.p.packet: {\"delimiter\":[\"a\"]} is not allowed"},
     {tcp("\"packet\": {\"length\": {}}"), ok},
     {tcp("\"packet\": {\"length\": {\"offset\": 1, \"bytes\": 4, \"endian\": \"big\", \"adjust\": -4, \"header\": \"keep\"}}"), ok},
     {tcp("\"packet\": {\"length\": {\"header\": \"strip\", \"endian\": \"little\", \"bytes\": 8}}"), ok},
     {tcp("\"packet\": {\"length\": {\"header\": \"strip\", \"offset\": 1}}"), "\"offset\":1}} is not allowed; it must be one of raw, "},
     {tcp("\"packet\": {\"length\": {\"bytes\": 9}}"), "pools.p.packet: {\"length\":{\"bytes\":9}} is not allowed"},
     {tcp("\"packet\": {\"length\": {\"bytes\": null}}"), "pools.p.packet: {\"length\":{\"bytes\":null}} is not allowed"},
     {tcp("\"packet\": {\"length\": {\"bytes\": {}}}"), "pools.p.packet: {\"length\":{\"bytes\":{}}} is not allowed"},
     {tcp("\"packet\": {\"length\": {\"size\": 4}}"), "offset (0 to 255, default 0), bytes (1 to 8, default 4), endian"},
     {tcp("\"packet\": {\"length\": 4}"), "; in a file, {\"fixed\": N}, {\"delimiter\": Text}, {\"length\": {}}"},
     {tcp("\"packet\": {\"length\": {}, \"fixed\": 5}"), "pools.p.packet: {\"length\":{},\"fixed\":5} is not allowed"},
     {tcp("\"packet\": {}"), "pools.p.packet: {} is not allowed"},
     {tcp("\"packet\": [\"fixed\", 5]"), "pools.p.packet: [\"fixed\",5] is not allowed"},
     {pool("\"transport\": \"node\", \"node\": \"b@h\", \"packet\": {\"fixed\": 4}"), "pools.p.packet: {\"fixed\":4} is not allowed"},
     {tcp("\"bind\": \"127.0.0.1\""), ok},
     {tcp("\"bind\": \"fe80::1\""), ok},
     {tcp("\"bind\": \"localhost\""), "pools.p.bind: \"localhost\" is not allowed; it must be "},
     {tcp("\"bind\": {}"), "pools.p.bind: {} is not allowed"},
     {tcp("\"validate\": {\"after\": 5}"), ok},
     {tcp("\"validate\": \"never\""), ok},
     {tcp("\"validate\": {\"after\": \"x\"}"), "pools.p.validate: {\"after\":\"x\"} is not allowed"},
     {tcp("\"validate\": {\"after\": 5, \"b\": 6}"), "in a file, {\"after\": Ms}"},
     {tcp("\"validate\": [\"after\", 5]"), "pools.p.validate: [\"after\",5] is not allowed"},
     {tcp("\"backoff\": [1, 10]"), ok},
     {tcp("\"backoff\": [10, 1]"), "pools.p.backoff: [10,1] is not allowed; it must be {MinMs, MaxMs}"},
     {tcp("\"backoff\": [[1], 10]"), "pools.p.backoff: [[1],10] is not allowed"},
     {tcp("\"min_size\": 0, \"idle_timeout\": 1000, \"max_lifetime\": 1000, \"max_uses\": 5"), ok},
     {tcp("\"min_size\": 11"), "pools.p.min_size: 11 is not allowed; it must be an integer from 0 to 1000000 (not above size"},
     {tcp("\"max_lifetime\": [10, 20]"), ok},
     {tcp("\"max_lifetime\": \"infinity\", \"idle_timeout\": \"infinity\", \"max_uses\": \"infinity\""), ok},
     {tcp("\"max_lifetime\": [20, 10]"), "pools.p.max_lifetime: [20,10] is not allowed; it must be an integer from 1 to"},
     {tcp("\"max_uses\": 0"), "pools.p.max_uses: 0 is not allowed"},
     {tcp("\"tls\": {}"), "pools.p.tls: {} is not allowed"},
     {tcp("\"tls\": []"), "pools.p.tls: [] is not allowed; it must be an object of TLS options"},
     {tcp("\"path\": \"/s\""), "pools.p.path: \"/s\" is not allowed"},
     {pool("\"transport\": \"unix\", \"path\": \"/s\""), ok},
     {pool("\"transport\": \"node\", \"node\": \"b@h\", \"max_inflight\": 5"), ok},
     {pool("\"transport\": \"node\", \"node\": \"b@h\", \"tls\": {}"), ok},
     {pool("\"transport\": \"node\""), "pools.p.node: is missing; it must be the name of a node"},
     {pool("\"transport\": \"node\", \"node\": \"b\""), "pools.p.node: \"b\" is not allowed"},
     {pool("\"transport\": \"node\", \"node\": \"b@h\", \"cookie\": \"s3cret\""),
      "pools.p.cookie: cannot be given in a file"},
     {pool("\"transport\": \"unix\", \"path\": \"" ++ lists:duplicate(2000000, $s) ++ "\""),
      "pools.p: the options are too long"},
     {pool("\"transport\": \"unix\", \"path\": \"a\\u0000b\""), "line 1, column "},
     {pool("\"host\": [], \"port\": 1"), "pools.p.host: [] is not allowed"},
     {pool("\"host\": \"a b\", \"port\": 1"), "pools.p.host: \"a b\" is not allowed"},
     {tls("\"verify\": \"none\", \"versions\": [\"tlsv1.3\"], \"alpn\": [\"h2\"], \"ktls\": true"), ok},
     {tls("\"verify\": false"), "pools.p.tls.verify: false is not allowed; it must be one of peer, none"},
     {tls("\"verifi\": false"), "pools.p.tls.verifi: does not exist; there are verify, cacertfile, "},
     {tls("\"password\": \"secret\""), "pools.p.tls.password: cannot be given in a file"},
     {tls("\"cacerts\": []"), "pools.p.tls.cacerts: cannot be given in a file"},
     {tls("\"keyfile\": \"k\""), "pools.p.tls.certfile: is missing; it must be a file's path"},
     {tls("\"versions\": \"tlsv1.3\""), "pools.p.tls.versions: \"tlsv1.3\" is not allowed"},
     {tls("\"ciphers\": 5"), "pools.p.tls.ciphers: 5 is not allowed"}].

whole() ->
    "{\"name\": \"pools@127.0.0.1\", \"cookie_file\": \"/etc/cookie\", \"listen\": \"127.0.0.1\","
    " \"tick_time\": 60, \"pools\": {"
    "   \"cache\": {\"host\": [\"a.example\", \"127.0.0.1\"], \"port\": 6379, \"size\": 0},"
    "   \"c\xc3\xa4che\": {\"transport\": \"unix\", \"path\": \"/tmp/s\"}}}".

pool(Options) -> "{\"pools\": {\"p\": {" ++ Options ++ "}}}".

tcp(Options) -> pool("\"host\": \"h\", \"port\": 80, " ++ Options).

tls(Options) ->
    tcp("\"transport\": \"tls\", \"tls\": {" ++ Options ++ "}").

check(Text, Expected) -> check(Text, Expected, 2).

check(Text, Expected, Status) ->
    File = filename:join("/tmp", "sockpool_config_" ++ os:getpid() ++ ".json"),
    ok = file:write_file(File, Text),
    Said = said(File),
    ok = file:delete(File),
    case Expected of
        ok ->
            ?assertEqual("status 0\n", Said);
        Words ->
            Start = "sockpool_node: " ++ File ++ ": ",
            ?assertEqual(Start, lists:sublist(Said, length(Start))),
            ?assertNotEqual({nomatch, Said}, {string:find(Said, Words), Said}),
            End = io_lib:format("\\A[^\n]{1,900}\nstatus ~b\n\\z", [Status]),
            ?assertNotEqual({nomatch, Said}, {re:run(Said, End, [{capture, none}]), Said})
    end.

%% With all that a start needs besides. A daemon that ends before it reads the cookie is no business of echo's.
said(File) ->
    os:cmd("{ echo c; } 2>/dev/null | " ++ sockpool_c_daemon:program() ++ " --check --name a@127.0.0.1 --cookie-stdin --config "
           ++ File ++ " 2>&1; echo status $?").

no_such_file_test() ->
    ?assertEqual("sockpool_node: /nonexistent/file: No such file or directory\nstatus 1\n",
                 said("/nonexistent/file")).

%% A file of TLS that is not here may come.
example_of_the_documentation_test_() ->
    {ok, Text} = file:read_file("docs/c_node.md"),
    {match, [Example]} = re:run(Text, "```json node.json\n(.*?)```", [dotall, {capture, all_but_first, list}]),
    Without = lists:flatten(string:replace(Example, "\"server_name\"", "\"cacertfile\": \"/no/such.pem\", \"server_name\"")),
    ?assertNotEqual(Example, Without),
    [?_test(check(Example, ok)),
     ?_test(check(Without, "pools.database.tls.cacertfile: cannot be used: enoent", 1))].

every_event_is_documented_test() ->
    {ok, Text} = file:read_file("docs/c_node.md"),
    Sources = [Source || File <- filelib:wildcard("c_src/node/*/*.c"),
                         {ok, Source} <- [file:read_file(File)]],
    {match, Events} = re:run(Sources, "sn_log\\(SN_LOG_[A-Z]+,\\s+\"(\\w+)\"",
                             [global, {capture, all_but_first, binary}]),
    ?assert(length(Events) > 15),
    [?assertNotEqual({nomatch, Event}, {binary:match(Text, <<"`", Event/binary, "`">>), Event})
     || [Event] <- Events].

%% The unit as systemd reads it, with this program.
systemd_unit_test_() ->
    case os:find_executable("systemd-analyze") of
        false -> [];
        _ -> fun systemd_unit/0
    end.

systemd_unit() ->
    {ok, Unit} = file:read_file("contrib/sockpool-node.service"),
    Dir = filename:join("/tmp", "sockpool_unit_" ++ os:getpid()),
    File = filename:join(Dir, "sockpool-node.service"),
    ok = filelib:ensure_dir(File),
    Program = filename:absname(sockpool_c_daemon:program()),
    Here = string:replace(Unit, "/usr/local/bin/sockpool_node", Program, all),
    ok = file:write_file(File, string:replace(Here, "User=sockpool", "User=daemon")),
    Said = os:cmd("systemd-analyze verify " ++ File ++ " 2>&1; echo status $?"),
    %% In tenths, on a scale to ten: "OK" is below 4.2.
    Exposed = os:cmd("systemd-analyze security --offline=true --threshold=20 " ++ File
                     ++ " >/dev/null; echo status $?"),
    ok = file:delete(File),
    ok = file:del_dir(Dir),
    ?assertEqual("status 0\n", Said),
    ?assertEqual("status 0\n", Exposed).
