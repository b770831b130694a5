%%% The metrics of the daemon: the same as those of a VM, told by HTTP to whoever asks, also where some ask badly.
-module(sockpool_c_metrics_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([as_a_vm/1, hostile_name/1, many_pools/1, requests/1, split_request/1, slow_reader/1, silent_ones/1, garbage/1,
         unix_socket/1, stale_socket/1, ipv6/1, of_the_file/1, wrong_options/1, check_of_a_running_one/1, draining/1, by_sockpool_node/1]).

-import(sockpool_test_util, [wait_until/1, settled/1]).
-import(sockpool_metrics_kit, [read/2, value/3]).

-define(HOSTILE, 'a\\b"\n{c="d"} 1\n# EOF\n\0\x{e9}').
-define(SHOWN, "a\\b\"\n{c=\"d\"} 1\n# EOF\n\x{fffd}\x{e9}").
-define(WAIT_MS, 30000).

suite() -> [{timetrap, {minutes, 2}}].

all() ->
    [as_a_vm, hostile_name, many_pools, requests, split_request, slow_reader, silent_ones, garbage,
     unix_socket, stale_socket, ipv6, of_the_file, wrong_options, check_of_a_running_one, draining, by_sockpool_node].

init_per_suite(Config) ->
    sockpool_c_daemon:if_built(fun() ->
                                       ok = sockpool_cluster:be_a_node(),
                                       {ok, _} = application:ensure_all_started(sockpool),
                                       Config
                               end).

end_per_suite(_Config) -> application:stop(sockpool).

%% Some start their own.
init_per_testcase(Case, Config) ->
    case lists:member(Case, [unix_socket, stale_socket, ipv6, of_the_file, wrong_options, check_of_a_running_one, draining, by_sockpool_node]) of
        true -> Config;
        false -> {Daemon, Port} = started("127.0.0.1:0"), [{daemon, Daemon}, {port, Port} | Config]
    end.

end_per_testcase(_Case, Config) ->
    case ?config(daemon, Config) of
        undefined -> ok;
        Daemon -> 0 = sockpool_c_daemon:stop(Daemon), ok
    end.

started(Where) ->
    Daemon = sockpool_c_daemon:start(#{args => ["--metrics", Where]}),
    {Daemon, port(Daemon)}.

port(#{said := Said}) ->
    [Port] = [Port || Line <- Said, {match, [Port]} <- [re:run(Line, "event=metrics .*port=(\\d+)", [{capture, all_but_first, list}])]],
    list_to_integer(Port).

pool(#{node := Node}, Name, Opts) ->
    Server = sockpool_test_server:start(),
    ok = sockpool:start_pool({Name, Node}, maps:merge(sockpool_test_server:target(Server), maps:merge(#{size => 2}, Opts))),
    _ = settled({Name, Node}),
    {Name, Node}.

used(Pool, Times) -> [{ok, <<"x">>} = sockpool:request(Pool, "x", 1, 5000) || _ <- lists:seq(1, Times)].

connect(Config) -> connect({127, 0, 0, 1}, ?config(port, Config)).

connect(Address, Port) ->
    {ok, Socket} = gen_tcp:connect(Address, Port, [binary, {active, false}], ?WAIT_MS),
    Socket.

asked(Socket, Text) ->
    ok = gen_tcp:send(Socket, Text),
    answer(Socket).

answer(Socket) -> answered(all_of(Socket, <<>>)).

all_of(Socket, Text) ->
    case gen_tcp:recv(Socket, 0, ?WAIT_MS) of
        {ok, More} -> all_of(Socket, <<Text/binary, More/binary>>);
        {error, closed} -> ok = gen_tcp:close(Socket), Text
    end.

%% One that is whole, and says how long it is.
answered(Text) ->
    [Head, Body] = binary:split(Text, <<"\r\n\r\n">>),
    [<<"HTTP/1.1 ", Status:3/binary, " ", _/binary>> | Lines] = binary:split(Head, <<"\r\n">>, [global]),
    Headers = maps:from_list([{string:lowercase(Key), Value} || Line <- Lines, [Key, Value] <- [binary:split(Line, <<": ">>)]]),
    {binary_to_integer(Status), Headers, Body}.

scrape(Config) -> scrape(Config, "").

scrape(Config, Headers) -> asked(connect(Config), ["GET /metrics HTTP/1.1\r\nHost: x\r\n", Headers, "\r\n"]).

text(Config) -> {200, _, Text} = scrape(Config), read(prometheus, Text).

%%% What is told.

%% The same families, with the same words about them, and the same lines for a pool.
as_a_vm(Config) ->
    Pool = pool(?config(daemon, Config), metrics_c, #{}),
    _ = used(Pool, 9),
    Server = sockpool_test_server:start(),
    ok = sockpool:start_pool(metrics_c, maps:merge(sockpool_test_server:target(Server), #{size => 2})),
    _ = settled(metrics_c),
    [begin
         {200, #{<<"content-type">> := Type}, Text} = scrape(Config, Headers),
         ?assertEqual(sockpool_metrics:content_type(Format), Type),
         There = read(Format, Text),
         Here = read(Format, sockpool_metrics:text(#{format => Format})),
         ?assertEqual(maps:map(fun(_, Family) -> maps:remove(samples, Family) end, Here),
                      maps:map(fun(_, Family) -> maps:remove(samples, Family) end, There)),
         ?assertEqual(lines(Here), lines(There)),
         ?assertEqual(order(sockpool_metrics:text(#{format => Format})), order(Text)),
         {ok, #{checkouts := Checkouts, created := Created}} = sockpool:stats(Pool),
         ?assertEqual(float(Checkouts), value("sockpool_checkouts_total", #{"pool" => "metrics_c"}, There)),
         ?assertEqual(float(Created), value("sockpool_connect_seconds_count", #{"pool" => "metrics_c", "phase" => "total"}, There)),
         ?assertEqual(9.0, value("sockpool_use_seconds_count", #{"pool" => "metrics_c"}, There)),
         {ok, #{use := #{sum := Sum}}} = sockpool:histograms(Pool),
         ?assertEqual(Sum / 1000000, value("sockpool_use_seconds_sum", #{"pool" => "metrics_c"}, There)),
         ?assertEqual(1.0, value("sockpool_build_info", #{"version" => version()}, There)),
         ?assertEqual({1.0, 1.0, 0.0}, {value("sockpool_up", #{"pool" => "metrics_c"}, There), in(open, There), in(down, There)})
     end || {Format, Headers} <- [{prometheus, ""}, {openmetrics, "accept: text/plain;q=0.5,application/openmetrics-text;version=1.0.0\r\n"}]],
    ok = sockpool:stop_pool(metrics_c),
    sockpool_metrics_kit:has_promtool() andalso
        begin
            {200, _, Told} = scrape(Config),
            ?assertEqual({0, ""}, sockpool_metrics_kit:promtool(?config(priv_dir, Config), "check metrics", Told))
        end.

lines(Families) -> lists:sort([{Name, Labels} || #{samples := Samples} <- maps:values(Families), {Name, #{"pool" := _} = Labels, _} <- Samples]).

order(Text) -> [Line || <<"# TYPE ", _/binary>> = Line <- binary:split(iolist_to_binary(Text), <<"\n">>, [global])].

version() ->
    {ok, Version} = application:get_key(sockpool, vsn),
    Version.

in(State, Families) -> value("sockpool_pool_state", #{"pool" => "metrics_c", "state" => atom_to_list(State)}, Families).

hostile_name(Config) ->
    Pool = pool(?config(daemon, Config), ?HOSTILE, #{}),
    _ = used(Pool, 3),
    ?assertEqual(3.0, value("sockpool_checkouts_total", #{"pool" => ?SHOWN}, text(Config))).

%% It goes on to serve meanwhile, pools that end are left out whole, and nothing is cut.
many_pools(Config) ->
    #{node := Node} = Daemon = ?config(daemon, Config),
    Server = sockpool_test_server:start(),
    Names = [list_to_atom("metrics_" ++ integer_to_list(I)) || I <- lists:seq(1, 100)],
    [ok = sockpool:start_pool({Name, Node}, maps:merge(sockpool_test_server:target(Server), #{size => 1})) || Name <- Names],
    Pool = pool(Daemon, metrics_c, #{}),
    ?assertEqual(101, length(whole(scrape(Config)))),
    Jobs = [sockpool_test_util:start(fun() -> scrape(Config) end) || _ <- lists:seq(1, 8)],
    _ = used(Pool, 20),
    [ok = sockpool:stop_pool({Name, Node}) || Name <- Names],
    [?assert(lists:member(<<"metrics_c">>, whole(sockpool_test_util:await(Job)))) || Job <- Jobs],
    ?assertEqual([<<"metrics_c">>], whole(scrape(Config))).

%% The pools in it, each with all its lines.
whole({200, _, Text}) ->
    Of = fun(Line) ->
                 {match, Found} = re:run(Text, ["^", Line, " "], [global, multiline, {capture, all_but_first, binary}]),
                 lists:sort(lists:append(Found))
         end,
    Pools = Of("sockpool_up\\{pool=\"(.*)\"\\}"),
    ?assertEqual(Pools, Of("sockpool_connect_seconds_count\\{pool=\"(.*)\",phase=\"init\"\\}")),
    Pools.

%%% Requests.

requests(Config) ->
    Ask = fun(Text) -> {Status, #{<<"content-length">> := Length}, Body} = asked(connect(Config), Text), {Status, binary_to_integer(Length), Body} end,
    [?assertMatch({{Text, Status}, {Status, Length, Body}} when Length =:= byte_size(Body), {{Text, Status}, Ask(Text)})
     || {Status, Text} <- [{200, "GET /metrics HTTP/1.1\r\n\r\n"}, {200, "GET /metrics?x=/y HTTP/1.0\r\nHost: a\r\n\r\n"},
                           {200, "GET /metrics HTTP/1.1\nHost: a\n\n"}, {404, "GET / HTTP/1.1\r\n\r\n"}, {404, "GET /metrics2 HTTP/1.1\r\n\r\n"},
                           {404, "GET http://x/metrics HTTP/1.1\r\n\r\n"}, {405, "POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"},
                           {405, "get /metrics HTTP/1.1\r\n\r\n"}, {505, "GET /metrics HTTP/2.0\r\n\r\n"}, {400, "GET /metrics\r\n\r\n"},
                           {400, "\r\n\r\n"}, {400, "GET  HTTP/1.1\r\n\r\n"}, {400, "GET /metrics HTTP/1.1\r\nno colon\r\n\r\n"},
                           {400, "GET /metrics HTTP/1.1\r\nA: \0\r\n\r\n"}, {400, "GET /metrics HTTP/1.1 \r\n\r\n"},
                           {431, ["GET /metrics HTTP/1.1\r\nA: ", lists:duplicate(5000, $a), "\r\n\r\n"]},
                           {431, lists:duplicate(4096, $a)}]],
    {200, Length, <<>>} = Ask("HEAD /metrics HTTP/1.1\r\n\r\n"),
    ?assert(Length > 2000),
    {405, #{<<"allow">> := <<"GET, HEAD">>, <<"connection">> := <<"close">>}, _} = asked(connect(Config), "PUT /metrics HTTP/1.1\r\n\r\n").

%% At every place.
split_request(Config) ->
    Text = <<"GET /metrics HTTP/1.1\r\nAccept: application/openmetrics-text\r\n\r\n">>,
    [begin
         <<First:At/binary, Second/binary>> = Text,
         Socket = connect(Config),
         ok = inet:setopts(Socket, [{nodelay, true}]),
         ok = gen_tcp:send(Socket, First),
         {200, #{<<"content-type">> := <<"application/openmetrics-text", _/binary>>}, _} = asked(Socket, Second)
     end || At <- lists:seq(1, byte_size(Text) - 1)].

%% Who does not read is let go of, and what was made for it is given back.
slow_reader(Config) ->
    #{node := Node} = Daemon = ?config(daemon, Config),
    [ok = sockpool:start_pool({list_to_atom("metrics_" ++ integer_to_list(I)), Node}, #{host => "127.0.0.1", port => 1, size => 0}) || I <- lists:seq(1, 300)],
    Before = sockpool_c_daemon:descriptors(Daemon),
    Slow = [begin
                {ok, Socket} = gen_tcp:connect({127, 0, 0, 1}, ?config(port, Config), [binary, {active, false}, {recbuf, 1024}]),
                ok = gen_tcp:send(Socket, "GET /metrics HTTP/1.1\r\n\r\n"),
                Socket
            end || _ <- lists:seq(1, 10)],
    {200, _, _} = scrape(Config),
    wait_until(fun() -> sockpool_c_daemon:descriptors(Daemon) =< Before end),
    [ok = gen_tcp:close(Socket) || Socket <- Slow],
    {200, _, _} = scrape(Config).

%% They come in numbers and say nothing, or not all: whoever asks is answered all the same.
silent_ones(Config) ->
    Daemon = ?config(daemon, Config),
    Before = sockpool_c_daemon:descriptors(Daemon),
    Sockets = [begin
                   Socket = connect(Config),
                   ok = gen_tcp:send(Socket, lists:sublist("GET /metrics HTTP/1.1\r\nHost: a", I rem 20)),
                   Socket
               end || I <- lists:seq(1, 100)],
    [{200, _, _} = scrape(Config) || _ <- lists:seq(1, 5)],
    ?assert(sockpool_c_daemon:descriptors(Daemon) =< Before + 17),
    [ok = gen_tcp:close(Socket) || Socket <- Sockets],
    wait_until(fun() -> sockpool_c_daemon:descriptors(Daemon) =< Before end).

%% Whatever comes, it is answered or ended, and the daemon goes on.
garbage(Config) ->
    [begin
         Socket = connect(Config),
         _ = gen_tcp:send(Socket, rand:bytes(rand:uniform(6000))),
         _ = gen_tcp:shutdown(Socket, write),
         _ = gen_tcp:recv(Socket, 0, ?WAIT_MS),
         gen_tcp:close(Socket)
     end || _ <- lists:seq(1, 100)],
    [begin
         Socket = connect(Config),
         ok = gen_tcp:send(Socket, "GET /metrics HTTP/1.1\r\n\r\n"),
         ok = inet:setopts(Socket, [{linger, {true, 0}}]),
         gen_tcp:close(Socket)
     end || _ <- lists:seq(1, 50)],
    {200, _, _} = scrape(Config).

%%% Where it listens.

unix_socket(_Config) ->
    Path = sockpool_test_util:unix_path(),
    Daemon = sockpool_c_daemon:start(#{args => ["--metrics", Path]}),
    {ok, Socket} = gen_tcp:connect({local, Path}, 0, [binary, {active, false}]),
    {200, _, _} = asked(Socket, "GET /metrics HTTP/1.1\r\n\r\n"),
    {1, Line} = ended(["--name", "sockpool_c_other@127.0.0.1", "--metrics", Path]),
    ?assertNotEqual(nomatch, string:find(Line, "cannot listen on " ++ Path)),
    0 = sockpool_c_daemon:stop(Daemon),
    ?assertEqual({error, enoent}, file:read_link_info(Path)).

%% Of one that was killed. A file that is none is not touched.
stale_socket(_Config) ->
    Path = sockpool_test_util:unix_path(),
    Killed = sockpool_c_daemon:start(#{args => ["--metrics", Path]}),
    ok = sockpool_c_daemon:kill(Killed),
    {ok, _} = file:read_link_info(Path),
    Daemon = sockpool_c_daemon:start(#{args => ["--metrics", Path]}),
    {ok, Socket} = gen_tcp:connect({local, Path}, 0, [binary, {active, false}]),
    {200, _, _} = asked(Socket, "GET /metrics HTTP/1.1\r\n\r\n"),
    0 = sockpool_c_daemon:stop(Daemon),
    ok = file:write_file(Path, "mine"),
    {1, _} = ended(["--name", "sockpool_c_other@127.0.0.1", "--metrics", Path]),
    ?assertEqual({ok, <<"mine">>}, file:read_file(Path)).

ipv6(_Config) ->
    case gen_tcp:listen(0, [inet6, {ip, {0, 0, 0, 0, 0, 0, 0, 1}}]) of
        {ok, Probe} ->
            ok = gen_tcp:close(Probe),
            {Daemon, Port} = started("[::1]:0"),
            {ok, Socket} = gen_tcp:connect({0, 0, 0, 0, 0, 0, 0, 1}, Port, [inet6, binary, {active, false}]),
            {200, _, _} = asked(Socket, "GET /metrics HTTP/1.1\r\n\r\n"),
            0 = sockpool_c_daemon:stop(Daemon);
        {error, _} ->
            {skip, "no IPv6 here"}
    end.

%% It needs a restart to change.
of_the_file(Config) ->
    Path = sockpool_test_util:unix_path(),
    File = filename:join(?config(priv_dir, Config), "metrics.json"),
    ok = file:write_file(File, ["{\"metrics\": \"", Path, "\"}"]),
    Daemon = sockpool_c_daemon:start(#{args => ["--config", File]}),
    {ok, Socket} = gen_tcp:connect({local, Path}, 0, [binary, {active, false}]),
    {200, _, _} = asked(Socket, "GET /metrics HTTP/1.1\r\n\r\n"),
    ok = file:write_file(File, "{\"metrics\": \"127.0.0.1:1\"}"),
    sockpool_c_daemon:hang_up(Daemon),
    ?assertNotEqual(nomatch, string:find(sockpool_c_daemon:await_line(Daemon, "event=needs_restart"), "key=metrics")),
    0 = sockpool_c_daemon:stop(Daemon).

wrong_options(Config) ->
    File = filename:join(?config(priv_dir, Config), "wrong.json"),
    Name = ["--name", "sockpool_c_wrong@127.0.0.1"],
    [begin
         {2, Line} = ended(Check ++ Name ++ ["--metrics", Value]),
         ?assertNotEqual(nomatch, string:find(Line, "--metrics " ++ Value)),
         ok = file:write_file(File, ["{\"metrics\": \"", Value, "\"}"]),
         {2, InFile} = ended(Check ++ Name ++ ["--config", File]),
         ?assertNotEqual(nomatch, string:find(InFile, "metrics"))
     end || Check <- [[], ["--check"]],
            Value <- ["localhost:1", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1:1x", "::1:80", "[::1]", "[127.0.0.1]:1",
                      ":1", "x", "/" ++ lists:duplicate(200, $x)]],
    {1, Nowhere} = ended(Name ++ ["--metrics", "/nonexistent/m.sock"]),
    ?assertNotEqual(nomatch, string:find(Nowhere, "cannot listen on /nonexistent/m.sock")),
    ?assertEqual({1, Nowhere}, ended(["--check" | Name] ++ ["--metrics", "/nonexistent/m.sock"])),
    {1, _} = ended(Name ++ ["--metrics", "192.0.2.1:9464"]).

%% As it is done before each reload. One that is to run beside it is refused.
check_of_a_running_one(_Config) ->
    Path = sockpool_test_util:unix_path(),
    Unix = sockpool_c_daemon:start(#{args => ["--metrics", Path]}),
    {Daemon, Port} = started("127.0.0.1:0"),
    Where = "127.0.0.1:" ++ integer_to_list(Port),
    [?assertEqual({0, ""}, ended(["--check", "--name", "sockpool_c_check@127.0.0.1", "--metrics", Each])) || Each <- [Where, Path]],
    {1, Line} = ended(["--name", "sockpool_c_check@127.0.0.1", "--metrics", Where]),
    ?assertNotEqual(nomatch, string:find(Line, "cannot listen on " ++ Where)),
    {200, _, _} = asked(connect({127, 0, 0, 1}, Port), "GET /metrics HTTP/1.1\r\n\r\n"),
    {ok, Socket} = gen_tcp:connect({local, Path}, 0, [binary, {active, false}]),
    {200, _, _} = asked(Socket, "GET /metrics HTTP/1.1\r\n\r\n"),
    [0 = sockpool_c_daemon:stop(Each) || Each <- [Daemon, Unix]].

%% It tells until it ends, also those who have asked when it does.
draining(_Config) ->
    {Daemon, Port} = started("127.0.0.1:0"),
    Pool = pool(Daemon, metrics_c, #{}),
    {ok, Conn} = sockpool:checkout(Pool),
    Idle = connect({127, 0, 0, 1}, Port),
    ok = sockpool_c_daemon:terminate(Daemon),
    _ = sockpool_c_daemon:await_line(Daemon, "event=ending"),
    {200, _, Text} = asked(connect({127, 0, 0, 1}, Port), "GET /metrics HTTP/1.1\r\n\r\n"),
    Families = read(prometheus, Text),
    ?assertEqual({1.0, 0.0}, {in(draining, Families), in(open, Families)}),
    ok = sockpool:checkin(Conn),
    "exit_status=0" = sockpool_c_daemon:await_line(Daemon, "exit_status="),
    ?assertEqual({error, closed}, gen_tcp:recv(Idle, 0, ?WAIT_MS)).

by_sockpool_node(_Config) ->
    Path = sockpool_test_util:unix_path(),
    Opts = #{name => list_to_atom(peer:random_name(sockpool_c)), program => sockpool_c_daemon:program(), start_timeout => 60000},
    {ok, Node} = sockpool_node:start_link(Opts#{metrics => Path}),
    {ok, Socket} = gen_tcp:connect({local, Path}, 0, [binary, {active, false}]),
    {200, _, _} = asked(Socket, "GET /metrics HTTP/1.1\r\n\r\n"),
    ok = gen_server:stop(Node),
    [begin
         {error, {bad_option, metrics, Bad} = Reason} = sockpool_node:start_link(Opts#{metrics => Bad}),
         ?assertNotEqual(nomatch, string:find(sockpool_node:format_error(Reason), "metrics"))
     end || Bad <- ["relative", "", {{127, 0, 0, 1}, 65536}, {"localhost", 1}, 9464, [0]]],
    [begin
         {ok, At} = sockpool_node:start_link(Opts#{metrics => {Address, 0}}),
         ok = gen_server:stop(At)
     end || Address <- [{127, 0, 0, 1}]].

%% What it ends with, and the last that it said.
ended(Args) ->
    Port = open_port({spawn_executable, sockpool_c_daemon:program()},
                     [{args, Args}, {line, 4096}, stderr_to_stdout, exit_status,
                      {env, [{"SOCKPOOL_COOKIE", atom_to_list(erlang:get_cookie())}]}]),
    ended(Port, "").

ended(Port, Last) ->
    receive
        {Port, {data, {_, Line}}} -> ended(Port, Line);
        {Port, {exit_status, Status}} -> {Status, Last}
    end.
