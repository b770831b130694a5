%%% @private
%%% Frames of the distribution protocol, as far as a pool of node connections needs them. Pure: terms to
%%% bytes and back.
%%%
%%% A call is a request to start a process (SPAWN_REQUEST) that runs `erpc:execute_call/4' and ends with
%%% what came of it as its reason, watched by a monitor, as erpc:call/5 does it: every node from OTP 23
%%% on has that function, and no process on the way takes one call after the other.
-module(sockpool_dist).

-export([identity/2, call/5, send/3, parse/1, result/2, io_request/3, answer/2]).
-export_type([identity/0, frame/0, destination/0]).

-record(identity, {pid :: binary(), ref :: binary()}).
-opaque identity() :: #identity{}.
%% Who a user of a connection is to its node: the pid that all its requests come from and results go to,
%% and what its references begin with.

-type destination() :: atom() | pid().
-type frame() :: {ended, Call :: pos_integer()} | {refused, Call :: pos_integer(), Reason :: atom()}
               | {message, To :: binary(), Payload :: binary()} | tick | other.

-define(VERSION, 131).
-define(PASS_THROUGH, 112).
-define(SMALL_TUPLE_EXT, 104).
-define(SMALL_INTEGER_EXT, 97).
-define(NEW_PID_EXT, 88).
-define(NEWER_REFERENCE_EXT, 90).
-define(SMALL_ATOM_UTF8_EXT, 119).
-define(ATOM_UTF8_EXT, 118).
-define(ATOM_EXT, 100).
-define(SMALL_ATOM_EXT, 115).
-define(SEND, 2).
-define(REG_SEND, 6).
-define(MONITOR_P_EXIT, 21).
-define(SPAWN_REQUEST, 29).
-define(SPAWN_REPLY, 31).
-define(NO_ATOM, ?SMALL_ATOM_UTF8_EXT, 0).

%% @doc One that no user had before, but for one 2^28 users ago: what was meant for somebody who had the
%% connection earlier is known by its pid.
-spec identity(Name :: binary(), Creation :: non_neg_integer()) -> identity().
identity(Name, Creation) ->
    Node = <<?SMALL_ATOM_UTF8_EXT, (byte_size(Name)), Name/binary>>,
    Unique = erlang:unique_integer([positive]),
    Numbers = <<(Unique band 16#7fff):32, ((Unique bsr 15) band 16#1fff):32>>,
    #identity{pid = <<?NEW_PID_EXT, Node/binary, Numbers/binary, Creation:32>>,
              ref = <<?NEWER_REFERENCE_EXT, 3:16, Node/binary, Creation:32>>}.

%% @doc The frame that begins the call, by its number. Its output goes to the pid of the identity.
-spec call(identity(), pos_integer(), module(), atom(), [term()]) -> iodata().
call(#identity{pid = Pid, ref = Ref}, Call, Module, Function, Args) ->
    [<<?PASS_THROUGH, ?VERSION, ?SMALL_TUPLE_EXT, 6, ?SMALL_INTEGER_EXT, ?SPAWN_REQUEST>>,
     Ref, <<0:32, Call:64>>, Pid, Pid, bare({erpc, execute_call, 4}), bare([monitor])
    | term_to_iovec([Call, Module, Function, Args])].

-spec send(identity(), destination(), term()) -> iodata().
send(#identity{pid = Pid}, Name, Message) when is_atom(Name) ->
    [<<?PASS_THROUGH, ?VERSION, ?SMALL_TUPLE_EXT, 4, ?SMALL_INTEGER_EXT, ?REG_SEND>>, Pid,
     <<?NO_ATOM>>, bare(Name) | term_to_iovec(Message)];
send(_Identity, To, Message) when is_pid(To) ->
    [<<?PASS_THROUGH, ?VERSION, ?SMALL_TUPLE_EXT, 3, ?SMALL_INTEGER_EXT, ?SEND, ?NO_ATOM>>,
     bare(To) | term_to_iovec(Message)].

%% A term as a part of another one.
bare(Term) ->
    <<?VERSION, Bare/binary>> = term_to_binary(Term),
    Bare.

%% @doc What a frame says, without a look at the terms in it: those are for the process that they are
%% for. What a node may send unasked and is no use here is `other'.
-spec parse(binary()) -> frame().
parse(<<>>) ->
    tick;
parse(<<?PASS_THROUGH, ?VERSION, ?SMALL_TUPLE_EXT, 5, ?SMALL_INTEGER_EXT, Op, Rest/binary>>) ->
    parse_call(Op, Rest);
parse(<<?PASS_THROUGH, ?VERSION, ?SMALL_TUPLE_EXT, 3, ?SMALL_INTEGER_EXT, ?SEND, Rest/binary>>) ->
    To = skip_atom(Rest),
    case skip_pid(To) of
        <<?VERSION, _/binary>> = Payload ->
            {message, binary:part(To, 0, byte_size(To) - byte_size(Payload)), Payload};
        _ ->
            other
    end;
parse(_Other) ->
    other.

parse_call(?MONITOR_P_EXIT, Rest) ->
    case call_number(skip_pid(skip_pid(Rest))) of
        {Call, _Reason} -> {ended, Call};
        error -> other
    end;
parse_call(?SPAWN_REPLY, Rest) ->
    case call_number(Rest) of
        {Call, AfterRef} -> spawn_reply(Call, skip_pid(AfterRef));
        error -> other
    end;
parse_call(_Op, _Rest) ->
    other.

%% The result is a pid where the process was started.
spawn_reply(Call, <<?SMALL_INTEGER_EXT, _Flags, Result/binary>>) ->
    try binary_to_term(<<?VERSION, Result/binary>>) of
        Reason when is_atom(Reason) -> {refused, Call, Reason};
        _Pid -> other
    catch
        error:badarg -> other
    end;
spawn_reply(_Call, _Other) ->
    other.

call_number(<<?NEWER_REFERENCE_EXT, 3:16, Rest/binary>>) ->
    case skip_atom(Rest) of
        <<_Creation:32, _:32, Call:64, After/binary>> -> {Call, After};
        _ -> error
    end;
call_number(_Other) ->
    error.

skip_pid(<<?NEW_PID_EXT, Rest/binary>>) ->
    case skip_atom(Rest) of
        <<_IdSerialCreation:12/binary, After/binary>> -> After;
        _ -> error
    end;
skip_pid(_Other) ->
    error.

skip_atom(<<Tag, Len, _:Len/binary, Rest/binary>>)
  when Tag =:= ?SMALL_ATOM_UTF8_EXT; Tag =:= ?SMALL_ATOM_EXT ->
    Rest;
skip_atom(<<Tag, Len:16, _:Len/binary, Rest/binary>>)
  when Tag =:= ?ATOM_UTF8_EXT; Tag =:= ?ATOM_EXT ->
    Rest;
skip_atom(_Other) ->
    error.

%% @doc What came of the call, from the frame that was `ended'.
-spec result(pos_integer(), binary()) -> {ok, term()} | {error, term()}.
result(Call, <<?PASS_THROUGH, Control/binary>>) ->
    try binary_to_term(Control) of
        {?MONITOR_P_EXIT, _From, _To, _Ref, Reason} -> outcome(Call, Reason)
    catch
        error:badarg -> {error, bad_reply}
    end.

outcome(Call, {Call, return, Result}) -> {ok, Result};
outcome(Call, {Call, throw, Thrown}) -> exception(throw, Thrown, []);
outcome(Call, {Call, exit, Reason}) -> exception(exit, Reason, []);
outcome(Call, {Call, error, Reason, Stack}) -> exception(error, Reason, Stack);
outcome(Call, {Call, error, {erpc, Reason}}) -> exception(error, Reason, []);
%% The process that ran the function was killed, or linked to one that died.
outcome(_Call, Signal) -> exception(exit, {signal, Signal}, []).

exception(Class, Reason, Stack) -> {error, {exception, Class, Reason, Stack}}.

%% @doc What is to be answered to a frame that was `other'.
-spec answer(identity(), binary()) -> binary() | undefined.
answer(#identity{pid = Pid}, Frame) -> sockpool_nif:node_answer(Frame, numbers(Pid)).

%% @doc A request of the io protocol from a function that this user of the connection called, or `other'.
%% (The node may write the atom in the pid in another way.)
-spec io_request(identity(), To :: binary(), Payload :: binary()) ->
          {pid(), ReplyAs :: term(), Request :: term()} | other.
io_request(#identity{pid = Pid}, To, Payload) ->
    case numbers(To) =:= numbers(Pid) of
        true -> io_request(Payload);
        false -> other
    end.

numbers(Pid) -> binary:part(Pid, byte_size(Pid), -12).

io_request(Payload) ->
    try binary_to_term(Payload) of
        {io_request, From, ReplyAs, Request} when is_pid(From) -> {From, ReplyAs, Request};
        _ -> other
    catch
        error:badarg -> other
    end.
