%%% A pool whose server's port is one that the system may choose for a connection of ours, and nobody
%%% listens there: sooner or later it is chosen, and TCP connects that socket to itself. A VM, and a
%%% daemon, with few ports of their own.
-module(sockpool_self_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, groups/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_group/2, end_per_group/2]).
-export([attempts/3]).
-export([nobody_gets_its_own_bytes/1]).

-define(FIRST_PORT, 50000).
-define(LAST_PORT, 50003).
%% As many that one would have met the port, 300 times over.
-define(ATTEMPTS, 300).

suite() -> [{timetrap, {minutes, 2}}].

all() -> [{group, tcp}, {group, tls}].

groups() -> [{tcp, [nobody_gets_its_own_bytes]}, {tls, [nobody_gets_its_own_bytes]}].

init_per_suite(Config) ->
    case few_ports() of
        {ok, Control} -> [{control, Control} | Config];
        {error, Why} -> {skip, Why}
    end.

%% A VM in a network of its own.
few_ports() ->
    Limit = lists:flatten(io_lib:format("PATH=$PATH:/usr/sbin:/sbin; ip link set lo up && echo ~b ~b "
                                        "> /proc/sys/net/ipv4/ip_local_port_range",
                                        [?FIRST_PORT, ?LAST_PORT])),
    Unshare = ["unshare", "--net", "--map-root-user"],
    case os:cmd(lists:join(" ", Unshare ++ ["sh -c '", Limit, "' 2>&1 && echo made"])) of
        "made\n" ->
            Erl = filename:join([code:root_dir(), "bin", "erl"]),
            Paths = lists:append([["-pa", Path] || Path <- code:get_path()]),
            {ok, Control, _} =
                peer:start(#{connection => standard_io, wait_boot => 60000, args => Paths,
                             exec => {os:find_executable(hd(Unshare)),
                                      tl(Unshare) ++ ["sh", "-c", Limit ++ "; exec \"$@\"", "sh", Erl]}}),
            {ok, Control};
        Why ->
            {error, "no network of its own can be had: " ++ Why}
    end.

end_per_suite(Config) -> peer:stop(?config(control, Config)).

init_per_group(Transport, Config) ->
    {ok, _} = peer:call(?config(control, Config), application, ensure_all_started, [sockpool]),
    [{transport, Transport} | Config].

end_per_group(_Transport, Config) ->
    ok = peer:call(?config(control, Config), application, stop, [sockpool]).

nobody_gets_its_own_bytes(Config) ->
    Arguments = [?config(transport, Config), ?FIRST_PORT, ?ATTEMPTS],
    {Answers, Failures, Created, Listen} =
        peer:call(?config(control, Config), ?MODULE, attempts, Arguments, infinity),
    ?assertEqual([{error, {unavailable, econnrefused}}], Answers),
    ?assertEqual(0, Created),
    ?assert(Failures >= ?ATTEMPTS),
    ?assertEqual(ok, Listen).

%% In that VM.
attempts(Transport, Port, Attempts) ->
    ok = sockpool:start_pool(itself, #{host => "127.0.0.1", port => Port, transport => Transport,
                                            size => 1, max_overflow => 0, backoff => {1, 1}}),
    Answers = lists:usort(answers(Attempts)),
    {ok, #{connect_failures := Failures, created := Created}} = sockpool:stats(itself),
    ok = sockpool:stop_pool(itself),
    {Answers, Failures, Created, listen(Port)}.

%% Each takes a while, so that the pool tries again and again.
answers(Attempts) ->
    Answer = sockpool:request(itself, "hello", 5, 100),
    case sockpool:stats(itself) of
        {ok, #{connect_failures := Failures, created := 0}} when Failures < Attempts ->
            [Answer | answers(Attempts)];
        _ ->
            [Answer]
    end.

%% Without reuseaddr, as a server that starts again may do it.
listen(Port) ->
    case gen_tcp:listen(Port, []) of
        {ok, Socket} -> gen_tcp:close(Socket);
        Error -> Error
    end.
