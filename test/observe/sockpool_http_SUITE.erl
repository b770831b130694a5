%%% The HTTP server: sockpool_http and what it answers. The page in a browser is sockpool_page_SUITE's.
-module(sockpool_http_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([off_by_default/1, bad_configuration/1, port_in_use/1, starts_again/1, get_and_head_only/1, headers/1, other_hosts/1,
         page_asks_nobody_else/1, pools/1, since/1, detail/1, connections/1, longest_lease/1, unknown/1, no_new_atoms/1,
         hostile_paths/1, hostile_names/1, events/1, metrics/1, verdict/1, ready/1, sampler_rests/1, history/1, histories_are_bounded/1]).

-import(sockpool_test_util, [wait_until/1]).

suite() -> [{timetrap, {minutes, 2}}].

all() ->
    [off_by_default, bad_configuration, port_in_use, starts_again, get_and_head_only, headers, other_hosts, page_asks_nobody_else, pools,
     since, detail, connections, longest_lease, unknown, no_new_atoms, hostile_paths, hostile_names, events, metrics, verdict, ready, sampler_rests, history,
     histories_are_bounded].

init_per_suite(Config) ->
    _ = application:stop(sockpool),
    {ok, Listener} = gen_tcp:listen(0, [binary, {active, false}, {backlog, 1024}, {ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Listener),
    Server = spawn(fun() -> accept(Listener) end),
    ok = gen_tcp:controlling_process(Listener, Server),
    [{server, Server}, {options, #{host => {127, 0, 0, 1}, port => Port, size => 2}} | Config].

end_per_suite(Config) ->
    exit(?config(server, Config), kill),
    {ok, _} = application:ensure_all_started(sockpool),
    ok.

accept(Listener) ->
    {ok, _} = gen_tcp:accept(Listener),
    accept(Listener).

init_per_testcase(Case, Config) when Case =:= off_by_default; Case =:= bad_configuration; Case =:= port_in_use ->
    Config;
init_per_testcase(_Case, Config) ->
    ok = configured(#{port => 0}),
    {ok, _} = application:ensure_all_started(sockpool),
    {ok, {{127, 0, 0, 1}, Port}} = sockpool_http:address(),
    [{http, Port} | Config].

end_per_testcase(_Case, _Config) ->
    _ = application:stop(sockpool),
    application:unset_env(sockpool, http).

configured(Http) ->
    _ = application:load(sockpool),
    application:set_env(sockpool, http, Http).

started(Name, Config) -> started(Name, #{}, Config).

started(Name, Options, Config) ->
    ok = sockpool:start_pool(Name, maps:merge(?config(options, Config), Options)),
    ok = sockpool:await_ready(Name, #{count => size, timeout => 30000}).

%%% A client that sends what it is told.

get(Path, Config) -> asked("GET", Path, "127.0.0.1", Config).

asked(Method, Path, Host, Config) ->
    {ok, Socket} = gen_tcp:connect({127, 0, 0, 1}, ?config(http, Config), [binary, {active, false}]),
    ok = gen_tcp:send(Socket, [Method, " ", Path, " HTTP/1.1\r\nHost: ", Host, "\r\nConnection: close\r\n\r\n"]),
    Answer = all(Socket, []),
    ok = gen_tcp:close(Socket),
    case binary:split(Answer, <<"\r\n\r\n">>) of
        [<<"HTTP/1.1 ", Code:3/binary, Rest/binary>>, Body] -> {binary_to_integer(Code), Rest, Body};
        _ -> {none, Answer, <<>>}
    end.

all(Socket, Parts) ->
    case gen_tcp:recv(Socket, 0, 10000) of
        {ok, Part} -> all(Socket, [Part | Parts]);
        {error, _} -> iolist_to_binary(lists:reverse(Parts))
    end.

json(Path, Config) ->
    {200, _, Body} = get(Path, Config),
    sockpool_json_reader:decode(Body).

%%% Starting.

off_by_default(_Config) ->
    {ok, _} = application:ensure_all_started(sockpool),
    ?assertEqual(undefined, whereis(sockpool_http)),
    ?assertEqual(undefined, whereis(sockpool_sampler)),
    ?assertEqual({error, not_started}, sockpool_http:address()).

bad_configuration(_Config) ->
    [begin
         ok = configured(Bad),
         {error, {sockpool, Reason}} = application:ensure_all_started(sockpool),
         Sentence = unicode:characters_to_list(sockpool:format_error(Reason)),
         ?assertNotEqual(nomatch, string:find(Sentence, "http"), Sentence),
         ?assertNotEqual(nomatch, string:find(Sentence, Said), Sentence)
     end || {Bad, Said} <- [{#{port => 70000}, "70000"}, {#{}, "port"}, {#{port => 0, ip => "nowhere"}, "nowhere"},
                            {#{port => 0, prot => 1}, "prot"}, {on, "on"}, {#{port => "80"}, "port"}, {#{port => 0, ip => {1, 2}}, "ip"}]].

port_in_use(_Config) ->
    {ok, Listener} = gen_tcp:listen(0, [{ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Listener),
    ok = configured([{port, Port}]),
    {error, {sockpool, Reason}} = application:ensure_all_started(sockpool),
    Sentence = unicode:characters_to_list(sockpool:format_error(Reason)),
    ?assertNotEqual(nomatch, string:find(Sentence, "eaddrinuse"), Sentence),
    ?assertNotEqual(nomatch, string:find(Sentence, integer_to_list(Port)), Sentence).

starts_again(Config) ->
    Before = whereis(sockpool_http),
    exit(whereis(sockpool_sampler), kill),
    wait_until(fun() -> is_pid(whereis(sockpool_http)) andalso whereis(sockpool_http) =/= Before end),
    {ok, {_, Port}} = sockpool_http:address(),
    ?assertMatch({200, _, _}, get("/api/pools", [{http, Port} | Config])).

%%% What every answer is like.

get_and_head_only(Config) ->
    [?assertMatch({405, _, _}, asked(Method, Path, "localhost", Config))
     || Method <- ["POST", "PUT", "DELETE"], Path <- ["/", "/api/pools", "/nothing"]],
    [?assertMatch({Code, _, _} when Code =:= 405; Code =:= 501; Code =:= 400, asked(Method, "/", "localhost", Config))
     || Method <- ["PATCH", "TRACE", "OPTIONS", "BREW"]],
    {200, Head, Body} = asked("HEAD", "/page.js", "localhost", Config),
    ?assertEqual(<<>>, Body),
    {200, Same, Script} = get("/page.js", Config),
    Length = fun(Lines) -> [Line || <<"Content-Length: ", _/binary>> = Line <- binary:split(Lines, <<"\r\n">>, [global])] end,
    ?assertEqual(Length(Head), Length(Same)),
    ?assertEqual([<<"Content-Length: ", (integer_to_binary(byte_size(Script)))/binary>>], Length(Same)).

headers(Config) ->
    {200, Head, _} = get("/", Config),
    [?assertNotEqual(nomatch, string:find(string:lowercase(Head), Part), {Part, Head})
     || Part <- ["content-security-policy: default-src 'self'", "x-content-type-options: nosniff", "frame-ancestors 'none'",
                 "content-type: text/html; charset=utf-8", "cache-control: no-store"]],
    ?assertEqual(nomatch, string:find(Head, "unsafe-inline")),
    {200, Json, _} = get("/api/pools", Config),
    ?assertNotEqual(nomatch, string:find(Json, "application/json; charset=utf-8")).

%% A name that somebody else has made lead here.
other_hosts(Config) ->
    [?assertMatch({200, _, _}, asked("GET", "/api/pools", Host, Config)) || Host <- ["localhost", "LOCALHOST:1", "127.0.0.1:80", "[::1]:80", "10.0.0.1"]],
    [?assertMatch({403, _, _}, asked("GET", Path, Host, Config)) || Host <- ["evil.example", "evil.example:80", "localhost.evil.example", "127.0.0.1.evil.example"],
                                                                  Path <- ["/", "/api/pools", "/ready"]].

page_asks_nobody_else(Config) ->
    Files = [begin {200, _, Body} = get(Path, Config), Body end || Path <- ["/", "/page.css", "/page.js"]],
    [?assertEqual([], [Url || [Url] <- found(Body, "https?://[^\"' ]+"), Url =/= <<"http://www.w3.org/2000/svg">>]) || Body <- Files],
    %% Markup is never made of a text, and the policy lets no style or script stand in the page.
    [?assertEqual([], found(Body, "innerHTML|outerHTML|insertAdjacentHTML|document\\.write|eval\\(|@import| style=| onclick=")) || Body <- Files].

found(Body, Pattern) ->
    case re:run(Body, Pattern, [global, {capture, first, binary}]) of
        {match, Found} -> Found;
        nomatch -> []
    end.

%%% Pools.

pools(Config) ->
    ok = started(http_a, Config),
    {ok, Conn} = sockpool:checkout(http_a),
    #{<<"all">> := true, <<"count">> := 1, <<"rows">> := [Row], <<"node">> := Node} = json("/api/pools", Config),
    ?assertEqual(atom_to_binary(node()), Node),
    ?assertMatch(#{<<"name">> := <<"http_a">>, <<"leased">> := 1, <<"idle">> := 1, <<"size">> := 2, <<"limit">> := 12, <<"state">> := <<"ok">>,
                   <<"last_error">> := null, <<"waiting">> := 0}, Row),
    ok = sockpool:checkin(Conn).

%% Only what has changed, and all again when a pool is gone.
since(Config) ->
    ok = started(http_a, Config),
    ok = started(http_b, Config),
    #{<<"number">> := First, <<"rows">> := [_, _]} = json("/api/pools", Config),
    {ok, Conn} = sockpool:checkout(http_b),
    Path = "/api/pools?since=" ++ integer_to_list(First),
    wait_until(fun() -> maps:get(<<"number">>, json(Path, Config)) > First end),
    #{<<"all">> := false, <<"rows">> := Rows} = json(Path, Config),
    ?assertEqual([<<"http_b">>], [Name || #{<<"name">> := Name} <- Rows]),
    ok = sockpool:checkin(Conn),
    ok = sockpool:stop_pool(http_b),
    wait_until(fun() -> maps:get(<<"all">>, json(Path, Config)) end),
    ?assertMatch(#{<<"all">> := true, <<"rows">> := [#{<<"name">> := <<"http_a">>}]}, json("/api/pools?since=1", Config)),
    ?assertMatch(#{<<"all">> := true}, json("/api/pools?since=99999999", Config)),
    [?assertMatch({400, _, _}, get("/api/pools?since=" ++ Bad, Config)) || Bad <- ["x", "-1", "1.5", "", lists:duplicate(30, $9)]].

detail(Config) ->
    ok = started(http_a, Config),
    [begin {ok, Conn} = sockpool:checkout(http_a), ok = sockpool:checkin(Conn) end || _ <- lists:seq(1, 5)],
    #{<<"counters">> := Counters, <<"histograms">> := Histograms, <<"row">> := Row, <<"short">> := _, <<"long">> := _} =
        json("/api/pools/http_a", Config),
    ?assertMatch(#{<<"checkouts">> := 5, <<"created">> := 2, <<"closed_by">> := #{<<"stopped">> := 0}}, Counters),
    #{<<"bounds">> := Bounds, <<"use">> := #{<<"count">> := 5, <<"buckets">> := Buckets}, <<"connect">> := #{<<"tcp">> := #{<<"count">> := 2}}} =
        Histograms,
    ?assertEqual({24, 25, 5}, {length(Bounds), length(Buckets), lists:sum(Buckets)}),
    ?assertMatch(#{<<"name">> := <<"http_a">>}, Row).

connections(Config) ->
    ok = started(http_a, Config),
    #{<<"count">> := 2, <<"connections">> := [First, _], <<"peers">> := [Peer], <<"longest">> := []} = json("/api/connections/http_a", Config),
    Address = <<"127.0.0.1:", (integer_to_binary(maps:get(port, ?config(options, Config))))/binary>>,
    ?assertMatch(#{<<"slot">> := 0, <<"state">> := <<"idle">>, <<"peer">> := Address, <<"owner">> := null}, First),
    ?assertMatch(#{<<"peer">> := Address, <<"total">> := 2, <<"idle">> := 2, <<"leased">> := 0}, Peer).

longest_lease(Config) ->
    ok = started(http_a, Config),
    {ok, Conn} = sockpool:checkout(http_a),
    true = register(http_suite_holder, self()),
    #{<<"longest">> := [Lease]} = json("/api/connections/http_a", Config),
    ?assertMatch(#{<<"name">> := <<"http_suite_holder">>, <<"held_ms">> := Ms} when is_integer(Ms), Lease),
    ?assertEqual(list_to_binary(pid_to_list(self())), maps:get(<<"owner">>, Lease)),
    ?assert(lists:any(fun(Frame) -> string:find(Frame, "sockpool_http_SUITE:") =/= nomatch end, maps:get(<<"stack">>, Lease))),
    true = unregister(http_suite_holder),
    ok = sockpool:checkin(Conn).

%%% What comes from outside.

unknown(Config) ->
    ok = started(http_a, Config),
    [?assertMatch({404, _, _}, get(Path, Config))
     || Path <- ["/api/pools/http_unknown", "/api/pools/lists", "/api/connections/http_unknown", "/api/connections/", "/api/pools/", "/api",
                 "/api/pools/http_a/more", "/page.erl", "/sockpool_nif.so", "/../rebar.config", "/favicon.ico"]],
    [?assertMatch({400, _, _}, get(Path, Config)) || Path <- ["/api/events?severity=loud", "/api/events?since=x"]].

no_new_atoms(Config) ->
    _ = get("/api/pools/http_none", Config),
    _ = get("/ready?pool=x&y=z", Config),
    Before = erlang:system_info(atom_count),
    [begin
         Name = ["never_seen_", integer_to_list(N)],
         {404, _, _} = get(["/api/pools/", Name], Config),
         {404, _, _} = get(["/api/connections/", Name], Config),
         {503, _, _} = get(["/ready?pool=", Name, "&", Name, "=", Name], Config),
         {400, _, _} = get(["/api/events?severity=", Name], Config)
     end || N <- lists:seq(1, 50)],
    ?assert(erlang:system_info(atom_count) < Before + 20).

hostile_paths(Config) ->
    Long = lists:duplicate(100000, $a),
    Paths = ["/%", "/%zz", "/%ff%fe", "/api/pools/%00", "/api/pools/%2e%2e%2f", "/..", "/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd",
             "//", "///", "/?", "/?&&&=", "/api/pools?since=%", "/api/pools?%ff=1", "/api/pools/" ++ Long, "/ready?pool=" ++ lists:duplicate(3000, $,),
             "/ready?pool=%", "*", "x", "http://127.0.0.1/", "/api/pools/a%0d%0aX-Evil:%20yes", "/\\..\\", "/%5c..%5c", "/;/", "/#"],
    [begin
         {Code, Head, Body} = get(Path, Config),
         ?assert(Code =:= none orelse Code =:= 200 orelse (Code >= 400 andalso Code < 504 andalso Code =/= 500), {Path, Code}),
         ?assertEqual(nomatch, string:find(Head, "X-Evil")),
         ?assertEqual(nomatch, string:find(Body, "root:"))
     end || Path <- Paths],
    [begin
         {ok, Socket} = gen_tcp:connect({127, 0, 0, 1}, ?config(http, Config), [binary, {active, false}]),
         _ = gen_tcp:send(Socket, Bytes),
         _ = gen_tcp:shutdown(Socket, write),
         _ = all(Socket, [])
     end || Bytes <- ["\r\n\r\n", "GET", "GET / HTTP/9.9\r\n\r\n", <<0, 1, 2, 3, 255, 13, 10, 13, 10>>,
                      ["GET / HTTP/1.1\r\nHost: localhost\r\nX: ", Long, "\r\n\r\n"],
                      "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\nx"]],
    ?assertMatch({200, _, _}, get("/api/pools", Config)).

hostile_names(Config) ->
    Names = ['<script>alert(1)</script>', '"\\/\n', '', 'a b&c=d?e#f/../%', list_to_atom([128512, 8238, $x])],
    [ok = started(Name, Config) || Name <- Names],
    {200, _, Body} = get("/api/pools", Config),
    ?assertEqual(nomatch, binary:match(Body, [<<"<">>, <<">">>, <<226, 128, 174>>])),
    #{<<"rows">> := Rows} = sockpool_json_reader:decode(Body),
    ?assertEqual(lists:sort([atom_to_binary(Name) || Name <- Names]), lists:sort([Name || #{<<"name">> := Name} <- Rows])),
    [begin
         Text = atom_to_binary(Name),
         Path = uri_string:quote(Text),
         ?assertMatch(#{<<"row">> := #{<<"name">> := Text}}, json(["/api/pools/", Path], Config)),
         ?assertMatch(#{<<"count">> := 2}, json(["/api/connections/", Path], Config))
     end || Name <- Names, Name =/= ''].

%% The texts in them are what a server has said, or a name.
events(Config) ->
    Name = '<b>http_events',
    ok = started(Name, Config),
    ok = sockpool_events:emit(warning, [sockpool, lease, leak], #{held => 5000},
                              #{pool => Name, owner => self(), peer => {{127, 0, 0, 1}, 1}, error => {unread_bytes, <<"</script>">>}}),
    Mine = fun(Path) -> [Event || #{<<"pool">> := <<"<b>http_events">>, <<"event">> := <<"sockpool.lease.leak">>} = Event
                                      <- maps:get(<<"events">>, json(Path, Config))] end,
    wait_until(fun() -> length(Mine("/api/events?severity=warning")) =:= 1 end),
    [#{<<"id">> := Id, <<"severity">> := <<"warning">>, <<"at">> := At, <<"measurements">> := Measurements, <<"metadata">> := Metadata}] =
        Mine("/api/events?severity=warning"),
    ?assert(abs(At - os:system_time(millisecond)) < 60000),
    ?assertMatch(#{<<"held">> := 5000}, Measurements),
    ?assertMatch(#{<<"peer">> := <<"127.0.0.1:1">>}, Metadata),
    ?assertNotEqual(nomatch, string:find(maps:get(<<"error">>, Metadata), "</script>")),
    ?assertEqual([], Mine("/api/events?severity=error")),
    ?assertEqual([], Mine("/api/events?since=" ++ integer_to_list(Id))),
    {200, _, Body} = get("/api/events?severity=warning", Config),
    ?assertEqual(nomatch, binary:match(Body, [<<"<">>, <<">">>])).

metrics(Config) ->
    ok = started(http_a, Config),
    {200, Head, Text} = get("/metrics", Config),
    ?assertNotEqual(nomatch, string:find(Head, "Content-Type: text/plain; version=0.0.4")),
    ?assertNotEqual(nomatch, string:find(Text, "sockpool_connections{pool=\"http_a\"")),
    %% That is no looking.
    ?assertEqual([], ets:tab2list(sockpool_sampler)),
    {ok, Socket} = gen_tcp:connect({127, 0, 0, 1}, ?config(http, Config), [binary, {active, false}]),
    ok = gen_tcp:send(Socket, "GET /metrics HTTP/1.0\r\nAccept: application/openmetrics-text; version=1.0.0\r\n\r\n"),
    Open = all(Socket, []),
    ?assertNotEqual(nomatch, string:find(Open, "application/openmetrics-text")),
    ?assertNotEqual(nomatch, string:find(Open, "# EOF")).

%% In words, and no word more when it is over.
verdict(Config) ->
    ok = sockpool:start_pool(http_down, (?config(options, Config))#{port => 1}),
    Verdict = fun() -> [{Pool, Severity} || #{<<"pool">> := Pool, <<"severity">> := Severity, <<"text">> := <<_, _/binary>>}
                                                <- maps:get(<<"verdict">>, json("/api/pools", Config))] end,
    wait_until(fun() -> Verdict() =:= [{<<"http_down">>, <<"error">>}] end),
    ok = sockpool:stop_pool(http_down),
    wait_until(fun() -> Verdict() =:= [] end).

ready(Config) ->
    ?assertMatch({200, _, _}, get("/ready", Config)),
    ok = started(http_a, Config),
    ok = sockpool:start_pool(http_never, (?config(options, Config))#{port => 1}),
    ok = sockpool:start_pool(http_when_asked, (?config(options, Config))#{size => 0}),
    ?assertMatch({200, _, _}, get("/ready?pool=http_a", Config)),
    ?assertMatch({200, _, _}, get("/ready?pool=http_a,http_when_asked", Config)),
    {503, _, Body} = get("/ready?pool=http_a,http_never,http_none", Config),
    ?assertEqual(#{<<"ready">> => false, <<"pools">> => #{<<"http_a">> => <<"ready">>, <<"http_never">> => <<"not_ready">>,
                                                          <<"http_none">> => <<"not_found">>}}, sockpool_json_reader:decode(Body)),
    ?assertMatch({503, _, _}, get("/ready", Config)),
    %% That is no looking.
    ?assertEqual([], ets:tab2list(sockpool_sampler)).

%%% The sampler.

%% Whoever has not asked for 30 seconds is gone: nothing is kept, and no timer runs.
sampler_rests(Config) ->
    ok = started(http_a, Config),
    ?assertEqual(undefined, timer()),
    _ = json("/api/pools", Config),
    ?assert(is_reference(timer())),
    ?assertMatch([_ | _], ets:tab2list(sockpool_sampler)),
    _ = sys:replace_state(sockpool_sampler, fun(State) -> setelement(3, State, erlang:monotonic_time(millisecond)) end),
    wait_until(fun() -> timer() =:= undefined end),
    ?assertEqual([], ets:tab2list(sockpool_sampler)),
    ?assertMatch(#{<<"rows">> := [_]}, json("/api/pools", Config)).

timer() -> element(2, sys:get_state(sockpool_sampler)).

%% One point a second, from when somebody has asked for it.
history(Config) ->
    ok = started(http_a, Config),
    ?assertMatch(#{<<"short">> := []}, json("/api/pools/http_a", Config)),
    {ok, Conn} = sockpool:checkout(http_a),
    wait_until(fun() -> length(maps:get(<<"short">>, json("/api/pools/http_a", Config))) >= 2 end),
    #{<<"short">> := Points} = json("/api/pools/http_a", Config),
    [_, Idle, Leased, 0, 0, 12, 2, _, _] = lists:last(Points),
    ?assertEqual({1, 1}, {Idle, Leased}),
    Times = [hd(Point) || Point <- Points],
    ?assertEqual(Times, lists:usort(Times)),
    ok = sockpool:checkin(Conn).

histories_are_bounded(Config) ->
    Names = [list_to_atom("http_" ++ integer_to_list(N)) || N <- lists:seq(1, 120)],
    [ok = started(Name, #{size => 1}, Config) || Name <- Names],
    _ = json("/api/pools", Config),
    [begin {ok, Conn} = sockpool:checkout(Name), ok = sockpool:checkin(Conn) end || Name <- Names],
    Histories = fun() -> map_size(element(6, sys:get_state(sockpool_sampler))) end,
    wait_until(fun() -> Histories() =:= 100 end),
    _ = [json(["/api/pools/", atom_to_list(Name)], Config) || Name <- Names],
    ?assertEqual(100, Histories()).
