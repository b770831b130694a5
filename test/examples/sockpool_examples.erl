%%% What the suites of the examples share: their servers, which are Debian's, and a thousand processes that use one while some of
%%% them are killed.
-module(sockpool_examples).

-include_lib("stdlib/include/assert.hrl").

-export([missing/2, dir/0, run/2, unprivileged/0]).
-export([under_load/3, assert_counted/2]).
-export_type([key/0, counted/0]).

-import(sockpool_test_util, [wait_until/1, settled/1, stat/2]).

-type key() :: binary().
-type counted() :: {key(), Done :: non_neg_integer(), normal | killed}.

-define(PROCESSES, 1000).
-define(KILLED, 200).

%%% Servers.

%% What a suite of them goes on with, unless one of the programs is not there.
-spec missing([{Program :: string(), Package :: string()}], Config) -> Config | {skip, string()} when Config :: list().
missing(Programs, Config) ->
    Path = os:getenv("PATH") ++ ":/usr/sbin:/sbin",
    case [Package || {Program, Package} <- Programs, os:find_executable(Program, Path) =:= false] of
        [] -> Config;
        Packages -> {skip, lists:flatten(["not installed: ", lists:join(" ", Packages)])}
    end.

%% A new one, where a server may write that is not root.
-spec dir() -> file:filename().
dir() ->
    Dir = sockpool_test_util:unix_path(),
    ok = file:make_dir(Dir),
    ok = file:change_mode(Dir, 8#777),
    Dir.

%% Fails where the command does.
-spec run(file:filename(), [string()]) -> ok.
run(Dir, Words) ->
    Said = os:cmd(lists:flatten(["cd ", Dir, " && ", lists:join(" ", Words), " && echo done"])),
    ?assertMatch({match, _}, re:run(Said, "done\n\\z"), Said),
    ok.

%% For those that do not run as root: what comes before their own name and arguments.
-spec unprivileged() -> {Program :: string(), Args :: [string()]}.
unprivileged() ->
    case os:cmd("id -u") of
        "0\n" -> {"setpriv", ["--reuid=nobody", "--regid=nogroup", "--clear-groups"]};
        _ -> {"env", []}
    end.

%%% Load.

%% Each process has a key of its own and does what there is to be done with it for the first time, the second, and so on; the
%% fun raises where the reply is not that to its request. Returns how often each has got a reply. What a process that was
%% killed had just asked for may have been done.
-spec under_load(sockpool:pool(), pos_integer(), fun((key(), pos_integer()) -> ok)) -> [counted()].
under_load(Pool, Size, Do) ->
    #{total := Size} = settled(Pool),
    Over = atomics:new(1, []),
    Done = atomics:new(?PROCESSES, []),
    Clients = [begin
                   Key = integer_to_binary(erlang:unique_integer([positive])),
                   {Pid, Monitor} = spawn_monitor(fun() -> client(Key, 1, Do, fun(N) -> atomics:put(Done, Index, N) end, Over) end),
                   {Pid, Monitor, Index, Key}
               end || Index <- lists:seq(1, ?PROCESSES)],
    %% They never rest.
    _ = process_flag(priority, high),
    Killed = kill(?KILLED, list_to_tuple([Pid || {Pid, _, _, _} <- Clients]), []),
    ok = atomics:put(Over, 1, 1),
    _ = process_flag(priority, normal),
    Counted = [receive
                   {'DOWN', Monitor, process, Pid, Reason} ->
                       %% One may have been told that it is over before it was killed.
                       ?assert(Reason =:= normal orelse Reason =:= killed andalso lists:member(Pid, Killed), Reason),
                       {Key, atomics:get(Done, Index), Reason}
               end || {Pid, Monitor, Index, Key} <- Clients],
    wait_until(fun() -> is_equal(Size, stat(Pool, total)) end),
    #{idle := Size, checkouts := Checkouts, checkins := Checkins, abandoned := Abandoned} = settled(Pool),
    ?assertEqual(Checkouts, Checkins + Abandoned),
    ct:pal("~b checkouts, ~b taken back from the dead", [Checkouts, Abandoned]),
    Counted.

is_equal(Same, Same) -> true;
is_equal(_Wanted, Other) -> Other.

client(Key, N, Do, Tell, Over) ->
    ok = Do(Key, N),
    ok = Tell(N),
    case atomics:get(Over, 1) of
        0 -> client(Key, N + 1, Do, Tell, Over);
        1 -> ok
    end.

%% At any moment of what they do.
kill(0, _Clients, Killed) ->
    Killed;
kill(Left, Clients, Killed) ->
    Victim = element(rand:uniform(tuple_size(Clients)), Clients),
    true = exit(Victim, kill),
    receive after rand:uniform(10) - 1 -> ok end,
    kill(Left - 1, Clients, [Victim | Killed]).

%% What the server has is what those have been told who asked for it.
-spec assert_counted([counted()], fun((key()) -> non_neg_integer())) -> ok.
assert_counted(Counted, Count) ->
    [begin
         Has = Count(Key),
         ?assert(Has =:= Done orelse How =:= killed andalso Has =:= Done + 1, {Key, Done, How, Has})
     end || {Key, Done, How} <- Counted],
    ct:pal("~b processes, ~b killed, done ~b times", [length(Counted), length([Key || {Key, _, killed} <- Counted]),
                                                      lists:sum([Done || {_, Done, _} <- Counted])]).
