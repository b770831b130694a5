%%% @private
%%% Says in the log who has a connection for longer than the pool's `leak_threshold', and where that process is now. By a
%%% process of its own: whoever is asked may be slow, and the pool's process must not wait.
-module(sockpool_leak).

-export([report/4, ended/4, client/1, holder/1]).


%% Its owner works for another process, which this names.
-define(CLIENT, '$sockpool_client').
%% To ask another node.
-define(REMOTE_MS, 500).
%% A process of a pool of nodes may work for one that works for a client.
-define(DEPTH, 3).

%% @doc Where there is no process to be had, nothing is said.
-spec report(sockpool:pool(), Connection :: non_neg_integer(), Owner :: pid(), HeldMs :: non_neg_integer()) -> ok.
report(Pool, Connection, Owner, HeldMs) ->
    elsewhere(fun() ->
        Holder = holder(Owner),
        sockpool_log:log(warning, #{event => leak, pool => Pool, owner => Holder, connection => Connection, held_ms => HeldMs, facts => facts(Holder)})
    end).

%% @doc That one has given it back, or lost it.
-spec ended(sockpool:pool(), Connection :: non_neg_integer(), Owner :: pid(), HeldMs :: non_neg_integer()) -> ok.
ended(Pool, Connection, Owner, HeldMs) ->
    elsewhere(fun() ->
        sockpool_log:log(notice, #{event => leak_ended, pool => Pool, owner => Owner, connection => Connection, held_ms => HeldMs})
    end).

%% @doc The calling process has its connection for that one.
-spec client(pid()) -> ok.
client(Pid) ->
    _ = put(?CLIENT, Pid),
    ok.

%% @doc The process that the owner of a lease works for; mostly itself.
-spec holder(pid()) -> pid().
holder(Owner) -> holder(Owner, ?DEPTH).

elsewhere(Fun) ->
    try
        _ = spawn(Fun),
        ok
    catch
        error:system_limit -> ok
    end.

holder(Owner, 0) ->
    Owner;
holder(Owner, Depth) when node(Owner) =:= node() ->
    case process_info(Owner, dictionary) of
        {dictionary, Dictionary} ->
            case proplists:get_value(?CLIENT, Dictionary) of
                Client when is_pid(Client) -> holder(Client, Depth - 1);
                undefined -> Owner
            end;
        undefined ->
            Owner
    end;
holder(Client, _Depth) ->
    Client.

facts(Holder) ->
    case asked(Holder) of
        Facts when is_list(Facts) -> lists:map(fun said/1, [{label, label(Holder)} | Facts]);
        undefined -> ""
    end.

asked(Holder) ->
    Items = [registered_name, dictionary, current_stacktrace],
    try
        case node(Holder) of
            Here when Here =:= node() -> process_info(Holder, Items);
            There -> erpc:call(There, erlang, process_info, [Holder, Items], ?REMOTE_MS)
        end
    catch
        _:_ -> undefined
    end.

%% Of another node's process its name and its stack have to do.
label(Holder) when node(Holder) =:= node() ->
    case erlang:function_exported(proc_lib, get_label, 1) of
        true -> (from_otp_27()):get_label(Holder);
        false -> undefined
    end;
label(_Holder) ->
    undefined.

from_otp_27() -> proc_lib.

said({label, undefined}) -> "";
said({label, Label}) -> io_lib:format(", labelled ~0tp", [Label]);
said({registered_name, []}) -> "";
said({registered_name, Name}) -> io_lib:format(", registered as ~tp", [Name]);
said({dictionary, Dictionary}) -> [called(Key, Dictionary) || Key <- ['$callers', '$ancestors']];
said({current_stacktrace, Stack}) -> ["; it is in", [io_lib:format("~n    ~ts", [place(Frame)]) || Frame <- Stack]].

called(Key, Dictionary) ->
    case proplists:get_value(Key, Dictionary) of
        [_ | _] = Processes -> io_lib:format(", ~s ~0tp", [name(Key), Processes]);
        _ -> ""
    end.

name('$callers') -> "called by";
name('$ancestors') -> "started by".

place({Module, Function, Arity, Location}) ->
    Line = case proplists:get_value(line, Location) of undefined -> ""; Number -> [$:, integer_to_list(Number)] end,
    io_lib:format("~tp:~tp/~b~s", [Module, Function, Arity, Line]).
