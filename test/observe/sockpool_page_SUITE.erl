%%% The page of sockpool_http in a browser, headless Chromium, with a load behind it.
%%%
%%% SOCKPOOL_SCREENSHOTS names a directory for the pictures of docs/: see `make screenshots'.
-module(sockpool_page_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([overview/1, hostile_names/1, detail/1, hostile_hash/1, empty/1, pictures/1, thousand_pools/1, cost/1]).

-import(sockpool_test_util, [wait_until/1, wait_until/2]).

%% Of a page that is open: at most 2 % of a core. Here other programs run, too.
-define(COST_MS_PER_S, 100).
-define(PATIENCE_MS, 60000).
-define(HOSTILE, '<script>document.title="owned"</script><img src=x onerror=alert(1)>').

suite() -> [{timetrap, {minutes, 4}}].

all() -> [overview, hostile_names, detail, hostile_hash, empty, pictures, thousand_pools, cost].

init_per_suite(Config) ->
    _ = application:stop(sockpool),
    Config.

end_per_suite(_Config) ->
    {ok, _} = application:ensure_all_started(sockpool),
    ok.

init_per_testcase(_Case, Config) ->
    _ = application:load(sockpool),
    ok = application:set_env(sockpool, http, #{port => 0}),
    {ok, _} = application:ensure_all_started(sockpool),
    {ok, {_, Http}} = sockpool_http:address(),
    [{http, Http}, {server, sockpool_test_server:start()} | Config].

end_per_testcase(_Case, Config) ->
    _ = application:stop(sockpool),
    ok = sockpool_test_server:stop(?config(server, Config)),
    application:unset_env(sockpool, http).

started(Name, Options, Config) ->
    ok = sockpool:start_pool(Name, maps:merge((sockpool_test_server:target(?config(server, Config)))#{size => 2}, Options)).

%% Processes that take, ask, keep and give back until the test ends.
load(Name, Processes, UseMs, PauseMs) ->
    [spawn_link(fun() -> user(Name, UseMs, PauseMs) end) || _ <- lists:seq(1, Processes)].

user(Name, UseMs, PauseMs) ->
    case sockpool:checkout(Name, 1000) of
        {ok, Conn} ->
            _ = sockpool:send(Conn, <<"hi">>),
            _ = sockpool:recv(Conn, 2),
            pause(UseMs),
            _ = sockpool:checkin(Conn);
        {error, _} ->
            pause(100)
    end,
    pause(PauseMs),
    user(Name, UseMs, PauseMs).

pause(0) -> ok;
pause(Ms) -> receive after rand:uniform(2 * Ms) -> ok end.

%%% The browser.

%% The page as it is when it has had some looks, and says all that; on a busy machine the first ones may come too early.
browsed(Path, Texts, Config) -> browsed_until(Path, fun(Dom) -> [Text || Text <- Texts, string:find(Dom, Text) =:= nomatch] =:= [] end, Texts, Config).

browsed_until(Path, IsThere, Wanted, Config) -> browsed_until(Path, IsThere, Wanted, Config, erlang:monotonic_time(millisecond) + ?PATIENCE_MS).

browsed_until(Path, IsThere, Wanted, Config, Deadline) ->
    Dom = browsed(Path, Config),
    case IsThere(Dom) of
        true ->
            Dom;
        false ->
            ?assert(erlang:monotonic_time(millisecond) < Deadline, {Wanted, Dom}),
            browsed_until(Path, IsThere, Wanted, Config, Deadline)
    end.

browsed(Path, Config) -> chromium(["--virtual-time-budget=3500", "--dump-dom"], "1400,1400", Path, Config).

chromium(Options, Size, Path, Config) ->
    ?assert(is_list(os:find_executable("chromium")), "chromium is needed: see scripts/install_missing.sh"),
    %% It complains of what a machine without a desktop lacks.
    Port = open_port({spawn_executable, "/bin/sh"},
                     [{args, ["-c", "exec chromium \"$@\" 2>/dev/null", "sh", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--disable-extensions",
                              "--user-data-dir=" ++ filename:join(?config(priv_dir, Config), "chromium"), "--window-size=" ++ Size]
                             ++ Options ++ ["http://localhost:" ++ integer_to_list(?config(http, Config)) ++ Path]},
                      exit_status, binary]),
    output(Port, []).

output(Port, Parts) ->
    receive
        {Port, {data, Data}} -> output(Port, [Data | Parts]);
        {Port, {exit_status, Status}} -> ?assertEqual(0, Status), iolist_to_binary(lists:reverse(Parts))
    after 90000 ->
        {os_pid, Pid} = erlang:port_info(Port, os_pid),
        _ = os:cmd("kill " ++ integer_to_list(Pid)),
        error(chromium_does_not_end)
    end.

says(Dom, Text) -> ?assertNotEqual(nomatch, string:find(Dom, Text), {Text, Dom}).
silent(Dom, Text) -> ?assertEqual(nomatch, string:find(Dom, Text), {Text, Dom}).

looks(Dom) ->
    {match, [Looks]} = re:run(Dom, "data-looks=\"([0-9]+)\"", [{capture, [1], list}]),
    list_to_integer(Looks).

%%% What is seen.

overview(Config) ->
    ok = started(orders, #{size => 4, max_overflow => 0}, Config),
    ok = started(mail, #{port => 1}, Config),
    _ = load(orders, 8, 20, 0),
    wait_until(fun() -> {ok, #{waiting := Waiting}} = sockpool:stats(orders), Waiting > 0 end),
    ok = judged(),
    %% The words of what is wrong, and the events, too.
    Texts = ["title=\"orders\"", "title=\"mail\"", "econnrefused", ">down<", ">waiting<", atom_to_list(node()), "(2)", "class=\"sev error\""],
    Dom = browsed("/", Texts, Config),
    silent(Dom, "All well"),
    _ = browsed_until("/", fun(Later) -> looks(Later) >= 3 end, looks, Config),
    ok.

%% Something was found.
judged() ->
    wait_until(fun() -> _ = sockpool_http_view:pools(0), receive after 50 -> ok end, case sockpool_sampler:verdict() of [_ | _] -> true; Other -> Other end end).

%% A name is text wherever it is shown: in the table, in titles, in the verdict, in the detail.
hostile_names(Config) ->
    ok = started(?HOSTILE, #{port => 1}, Config),
    ok = judged(),
    Dom = browsed("/#" ++ uri_string:quote(atom_to_list(?HOSTILE)),
                  ["&lt;script&gt;document.title=\"owned\"&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;</h2>"], Config),
    silent(Dom, "<script>document"),
    silent(Dom, "<img"),
    says(Dom, "<title>sockpool</title>").

detail(Config) ->
    ok = started(orders, #{size => 4}, Config),
    _ = load(orders, 3, 5, 5),
    Holder = spawn_link(fun() -> {ok, _} = sockpool:checkout(orders), receive never -> ok end end),
    wait_until(fun() -> {ok, #{leased := Leased}} = sockpool:stats(orders), Leased > 0 end),
    Texts = ["leased of 14", "p50 ≤ ", "name look-up", "Where connecting takes its time", pid_text(Holder),
             "127.0.0.1:" ++ integer_to_list(sockpool_test_server:port(?config(server, Config))), "sockpool_page_SUITE:",
             "Leased, idle and connecting connections, and those who wait, over time"],
    Dom = browsed("/#orders", Texts, Config),
    silent(Dom, "no answer from the node").

pid_text(Pid) -> string:replace(string:replace(pid_to_list(Pid), "<", "&lt;"), ">", "&gt;").

hostile_hash(Config) ->
    ok = started(orders, #{}, Config),
    [begin
         Dom = browsed("/#" ++ Hash, ["title=\"orders\""], Config),
         silent(Dom, "<img")
     end || Hash <- ["%3Cimg%20src=x%20onerror=alert(1)%3E"]].

empty(Config) ->
    Dom = browsed("/", ["There is no pool on this node.", "All well"], Config),
    silent(Dom, ">Looking<").

%% As docs/ have it, in both themes, and as wide as a telephone.
pictures(Config) ->
    ok = started(orders, #{size => 20, max_overflow => 0}, Config),
    ok = started(sessions, #{size => 30, max_overflow => 20}, Config),
    ok = started(catalogue, #{size => 8}, Config),
    ok = started(mail, #{port => 1, size => 4}, Config),
    ok = started('<script>alert(1)</script>', #{}, Config),
    Tenants = [list_to_atom("tenant_" ++ integer_to_list(N)) || N <- lists:seq(1, 12)],
    [ok = started(Tenant, #{max_overflow => 2}, Config) || Tenant <- Tenants],
    _ = [load(orders, 30, 15, 3), load(sessions, 12, 3, 5), load(catalogue, 2, 1, 100), [load(Tenant, 1, 2, 300) || Tenant <- Tenants]],
    %% So that there is a history, and something was found.
    wait_until(fun() ->
                       _ = sockpool_http_view:pools(0),
                       {ok, #{short := {list, Points}}} = sockpool_http_view:pool(orders),
                       receive after 200 -> ok end,
                       length(Points) >= seconds()
               end, 120000),
    ok = judged(),
    Dir = case os:getenv("SOCKPOOL_SCREENSHOTS") of false -> ?config(priv_dir, Config); Given -> Given end,
    [begin
         File = filename:join(Dir, Name),
         _ = chromium(["--virtual-time-budget=2500", "--screenshot=" ++ File], Size, Path, Config),
         {ok, <<137, "PNG", _/binary>> = Png} = file:read_file(File),
         ?assert(byte_size(Png) > 20000)
     end || {Name, Size, Path} <- views()].

views() ->
    All = [{"page-light.png", "1400,2050", "/?theme=light#orders"}, {"page-dark.png", "1400,1160", "/?theme=dark#orders"},
           {"page-phone.png", "500,900", "/?theme=light"}],
    case os:getenv("SOCKPOOL_SCREENSHOTS") of false -> [lists:last(All)]; _ -> All end.

seconds() -> case os:getenv("SOCKPOOL_SCREENSHOTS") of false -> 2; _ -> 40 end.

%%% Many pools.

%% Only those rows are made that are seen.
thousand_pools(Config) ->
    ok = thousand(Config),
    _ = load(many_500, 1, 1, 50),
    %% The busiest of those that are well comes first.
    Dom = browsed_until("/", fun(Seen) -> first_row(Seen) =:= <<"many_500">> end, many_500, Config),
    says(Dom, "(1000)"),
    says(Dom, "aria-rowcount=\"1001\""),
    {match, Rows} = re:run(Dom, "id=\"row-", [global]),
    ?assert(length(Rows) >= 10 andalso length(Rows) < 60, length(Rows)),
    %% What changes is on the page within a look, which is one a second.
    {ok, Conn} = sockpool:checkout(many_7),
    #{number := Number} = sockpool_http_view:pools(0),
    {Us, ok} = timer:tc(fun() -> wait_until(fun() -> leased(<<"many_7">>, Number - 1) end) end),
    ct:comment("seen after ~b ms", [Us div 1000]),
    ok = sockpool:checkin(Conn).

first_row(Dom) ->
    case re:run(Dom, "id=\"row-0\".*?title=\"([^\"]+)\"", [{capture, [1], binary}, dotall]) of
        {match, [First]} -> First;
        nomatch -> nomatch
    end.

leased(Name, Since) ->
    #{rows := {list, Rows}} = sockpool_http_view:pools(Since),
    lists:any(fun(Row) -> string:find(Row, ["\"leased\":1"]) =/= nomatch andalso string:find(Row, [$", Name, $"]) =/= nomatch end,
              [iolist_to_binary(Row) || {raw, Row} <- Rows]).

thousand(Config) ->
    [ok = started(list_to_atom("many_" ++ integer_to_list(N)), #{size => 1}, Config) || N <- lists:seq(1, 1000)],
    ok.

%% What the VM spends while a page is open, and that it spends nothing on that while none is.
cost(Config) ->
    ok = thousand(Config),
    [ok = sockpool:await_ready(list_to_atom("many_" ++ integer_to_list(N)), #{timeout => 30000}) || N <- lists:seq(1, 1000)],
    wait_until(fun() -> spent(1) < ?COST_MS_PER_S end),
    Closed = spent(5),
    Page = spawn_link(fun() -> page(0, ?config(http, Config)) end),
    receive after 2000 -> ok end,
    Open = spent(5),
    unlink(Page),
    exit(Page, kill),
    ct:comment("~b ms a second open, ~b closed", [Open, Closed]),
    ct:pal("a page of 1,000 pools: ~b ms of CPU a second open, ~b closed", [Open, Closed]),
    ?assert(Open - Closed < ?COST_MS_PER_S, {Open, Closed}),
    _ = sys:replace_state(sockpool_sampler, fun(State) -> setelement(3, State, erlang:monotonic_time(millisecond)) end),
    wait_until(fun() -> element(2, sys:get_state(sockpool_sampler)) =:= undefined end),
    ?assertEqual([], ets:tab2list(sockpool_sampler)).

spent(Seconds) ->
    _ = erlang:statistics(runtime),
    receive after Seconds * 1000 -> ok end,
    {_, Ms} = erlang:statistics(runtime),
    Ms div Seconds.

page(Number, Http) ->
    {ok, Socket} = gen_tcp:connect({127, 0, 0, 1}, Http, [binary, {active, false}]),
    ok = gen_tcp:send(Socket, ["GET /api/pools?since=", integer_to_list(Number), " HTTP/1.0\r\nHost: localhost\r\n\r\n"]),
    {match, [Next]} = re:run(received(Socket, []), "\"number\":([0-9]+)", [{capture, [1], list}]),
    receive after 1000 -> page(list_to_integer(Next), Http) end.

received(Socket, Parts) ->
    case gen_tcp:recv(Socket, 0, 10000) of
        {ok, Part} -> received(Socket, [Part | Parts]);
        {error, closed} -> iolist_to_binary(lists:reverse(Parts))
    end.
