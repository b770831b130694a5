%%% How pools with transport => node connect, what the node sees of it, and how connections live and die.
-module(sockpool_node_connect_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2,
         end_per_testcase/2]).
-export([hidden/1, names_are_used_again/1, ticks_while_idle/1, ticks_while_leased/1,
         unasked_messages/1, killed_under_calls/1]).
-export([wrong_cookie/1, cookie_is_not_logged/1, unknown_node/1, port_without_epmd/1, other_node/1,
         not_a_node/1, epmd_module/1]).
-export([tls/1, tls_without_a_certificate/1, plain_to_tls/1]).

-import(sockpool_test_util, [wait_until/1, settled/1, stat/2, unavailable/1]).
-import(sockpool_node_kit, [started/2, checked_out/1]).

suite() -> [{timetrap, {minutes, 3}}].

all() ->
    [hidden, names_are_used_again, ticks_while_idle, ticks_while_leased, unasked_messages,
     killed_under_calls, wrong_cookie, cookie_is_not_logged, unknown_node, port_without_epmd,
     other_node, not_a_node, epmd_module, tls, tls_without_a_certificate, plain_to_tls].

init_per_suite(Config) -> sockpool_node_kit:init_suite(sockpool_tls_kit:with_certificates(Config)).
end_per_suite(Config) -> sockpool_node_kit:end_suite(Config).
init_per_testcase(Case, Config) -> sockpool_node_kit:init_case(Case, Config).
end_per_testcase(_Case, _Config) -> sockpool_node_kit:end_case().

%%% What the node sees.

hidden(Config) ->
    Node = ?config(node, Config),
    Pool = started(Config, #{size => 3}),
    _ = settled(Pool),
    Conns = [checked_out(Pool) || _ <- lists:seq(1, 3)],
    Names = [begin {ok, #{name := Name}} = sockpool:info(Conn), Name end || Conn <- Conns],
    ?assertEqual(3, length(lists:usort(Names))),
    {ok, Hidden} = sockpool:call(hd(Conns), erlang, nodes, [hidden], 30000),
    {ok, Visible} = sockpool:call(hd(Conns), erlang, nodes, [], 30000),
    Known = [atom_to_binary(Name) || Name <- Hidden],
    ?assertEqual([], Names -- Known),
    ?assertEqual([], [Name || Name <- Visible, lists:member(atom_to_binary(Name), Names)]),
    ?assertNot(lists:member(Node, [binary_to_existing_atom(Name) || Name <- Names])),
    [ok = sockpool:checkin(Conn) || Conn <- Conns],
    ok = sockpool:stop_pool(Pool),
    wait_until(fun() -> erpc:call(Node, erlang, nodes, [hidden]) =:= [] end).

%% The node names us and uses those names again: 1,000 connections leave no more atoms there than as
%% many as there were at the same time.
names_are_used_again(Config) ->
    Node = ?config(node, Config),
    Pool = started(Config, #{size => 2, backoff => {1, 1}}),
    Reconnect = fun() ->
                        Conns = [checked_out(Pool) || _ <- [1, 2]],
                        [ok = sockpool:discard(Conn) || Conn <- Conns]
                end,
    [Reconnect() || _ <- lists:seq(1, 20)],
    Before = erpc:call(Node, erlang, system_info, [atom_count]),
    [Reconnect() || _ <- lists:seq(1, 500)],
    After = erpc:call(Node, erlang, system_info, [atom_count]),
    ct:pal("atoms of the node: ~b, and after 1,000 connections ~b", [Before, After]),
    ?assert(stat(Pool, created) >= 1000),
    ?assert(After - Before < 50),
    ok.

ticks_while_idle(Config) -> sockpool_node_connect_cases:ticks_while_idle(Config).

ticks_while_leased(Config) -> sockpool_node_connect_cases:ticks_while_leased(Config).

unasked_messages(Config) -> sockpool_node_connect_cases:unasked_messages(Config).

killed_under_calls(Config) -> sockpool_node_connect_cases:killed_under_calls(Config, ok).

%%% Connecting.

wrong_cookie(Config) ->
    sockpool_node_connect_cases:wrong_cookie(
      Config, [erlang:get_cookie(), atom_to_binary(erlang:get_cookie()), fun erlang:get_cookie/0]).

cookie_is_not_logged(Config) ->
    Pool = started(Config, #{cookie => <<"s3cret">>}),
    ?assertEqual({node, wrong_cookie}, unavailable(Pool)),
    {_, Pid, _, _} = lists:keyfind({sockpool, Pool}, 1, supervisor:which_children(sockpool_sup)),
    Shown = io_lib:format("~p", [{sys:get_status(Pid), sys:get_status(sockpool_sup),
                                  sockpool:stats(Pool), process_info(Pid, [messages, dictionary])}]),
    ?assertEqual(nomatch, string:find(Shown, "s3cret")),
    ok = sockpool:stop_pool(Pool),
    [begin
         _ = started(Config, #{cookie => Fun}),
         ?assertEqual({cookie, Why}, unavailable(Pool)),
         ok = sockpool:stop_pool(Pool)
     end || {Fun, Why} <- [{fun() -> error(s3cret) end, error}, {fun() -> throw(s3cret) end, throw},
                           {fun() -> "s3cret" end, not_a_cookie}, {{erlang, error, [s3cret]}, error},
                           {{erlang, list_to_binary, [[]]}, not_a_cookie}]],
    _ = started(Config, #{cookie => {erlang, get_cookie, []}}),
    ?assertMatch({ok, _}, sockpool:call(Pool, erlang, node, [], 5000)).

unknown_node(Config) -> sockpool_node_connect_cases:unknown_node(Config).

%% A module of the user's in place of OTP's, with as many functions as OTP would be content with. It is
%% asked on a node that is not distributed itself.
epmd_module(Config) ->
    Node = ?config(node, Config),
    [Name, Host] = string:split(atom_to_list(Node), "@"),
    {port, Port, _} = erl_epmd:port_please(Name, Host),
    {ok, Ip} = inet:getaddr(Host, inet),
    Paths = lists:append([["-pa", Path] || Path <- code:get_path()]),
    {ok, Control, _} = peer:start_link(#{connection => standard_io, wait_boot => 60000,
                                         args => ["-epmd_module", "epmd_of_the_user" | Paths]}),
    {ok, _} = peer:call(Control, application, ensure_all_started, [sockpool]),
    Elsewhere = list_to_atom(Name ++ "@no-such-host.invalid"),
    Is = fun(Name2) -> io_lib:format("(~p, ", [Name2]) end,
    Two = ["port_please", Is(Name), "_) -> {port, ~b, 5}."],
    Three = ["port_please", Is(Name), "_, T) when T > 0 -> {port, ~b, 5}."],
    Finds = ["address_please", Is(Name), "_, inet) -> {ok, ~p}."],
    Knows = ["address_please", Is(Name), "_, inet) -> {ok, ~p, ~b, 5}."],
    Only6 = ["address_please(_, _, inet) -> {error, nxdomain}; address_please(_, _, inet6) -> {ok, "
             "{0, 0, 0, 0, 0, 65535, ~b, ~b}, ~b, 5}."],
    {A, B, C, D} = Ip,
    Mapped = [A * 256 + B, C * 256 + D, Port],
    [?assertEqual({Case, {ok, Whose}}, {Case, over_epmd(Control, Config, Whose, Functions)})
     || {Case, Whose, Functions} <-
            [{two, Node, [{Two, [Port]}]},
             {three, Node, [{Three, [Port]}]},
             {both, Node, [{Three, [Port]}, {["port_please(_, _) -> noport."], []}]},
             {given_an_address, Node, [{Finds, [Ip]}, {Two, [Port]}]},
             {given_all, Node, [{Knows, [Ip, Port]}]},
             {given_ipv6, Node, [{Only6, Mapped}]}]],
    Failing = fun(Functions) -> over_epmd(Control, Config, Elsewhere, Functions) end,
    ?assertEqual({error, {unavailable, nxdomain}},
                 Failing([{["address_please(_, _, _) -> {error, nxdomain}."], []}])),
    ?assertEqual({error, {unavailable, {no_such_node, Elsewhere}}},
                 Failing([{Finds, [Ip]}, {["port_please(_, _) -> noport."], []}])),
    ?assertMatch({error, {unavailable, {epmd, {error, undef, [_ | _]}}}}, Failing([{Finds, [Ip]}])),
    ?assertMatch({error, {unavailable, {epmd, odd}}}, Failing([{["address_please(_, _, _) -> odd."], []}])),
    %% One that knows all of it is not asked for a name that this node would have to look up.
    ?assertEqual({error, {unavailable, {node, other_node}}}, Failing([{Knows, [Ip, Port]}])),
    peer:stop(Control).

over_epmd(Control, Config, Node, Functions) ->
    Sources = ["-module(epmd_of_the_user).", "-compile([export_all, nowarn_export_all])."
               | [io_lib:format(lists:flatten(Source), Args) || {Source, Args} <- Functions]],
    {ok, Module, Code} = compile:forms([form(Source) || Source <- Sources]),
    {module, Module} = peer:call(Control, code, load_binary, [Module, "epmd_of_the_user", Code]),
    Pool = ?config(pool, Config),
    ok = peer:call(Control, sockpool, start_pool,
                   [Pool, #{transport => node, node => Node, cookie => erlang:get_cookie(), size => 1,
                            max_overflow => 0, backoff => {1, 5}}]),
    Told = told(Control, Pool, 100),
    ok = peer:call(Control, sockpool, stop_pool, [Pool]),
    Told.

%% A first attempt may need a while.
told(Control, Pool, Left) ->
    case peer:call(Control, sockpool, call, [Pool, erlang, node, [], 300]) of
        {error, timeout} when Left > 0 -> told(Control, Pool, Left - 1);
        Told -> Told
    end.

form(Source) ->
    {ok, Tokens, _} = erl_scan:string(lists:flatten(Source)),
    {ok, Form} = erl_parse:parse_form(Tokens),
    Form.

port_without_epmd(Config) -> sockpool_node_connect_cases:port_without_epmd(Config).

other_node(Config) -> sockpool_node_connect_cases:other_node(Config).

not_a_node(Config) -> sockpool_node_connect_cases:not_a_node(Config).

%%% TLS distribution.

tls(Config) -> sockpool_node_connect_cases:tls(Config, fun sockpool:reload_tls/1).

tls_without_a_certificate(Config) -> sockpool_node_connect_cases:tls_without_a_certificate(Config).

plain_to_tls(Config) -> sockpool_node_connect_cases:plain_to_tls(Config).
