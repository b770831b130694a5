%%% @private
%%% Frames of the distribution protocol, as far as a pool of node connections needs them: what is said to a
%%% node, and what it means that comes from one. Pure: terms to bytes and back.
%%%
%%% A call is a request to start a process (SPAWN_REQUEST) that runs `erpc:execute_call/4' and ends with
%%% what came of it as its reason, watched by a monitor, as erpc:call/5 does it: every node from OTP 23
%%% on has that function, and no process on the way takes one call after the other.
-module(sockpool_dist).

-export([identity/2, call/5, message/4, io_reply/3, incoming/2, result/2]).
-export_type([identity/0, incoming/0, outcome/0, io_request/0]).

-record(identity, {pid :: binary(), ref :: binary()}).
-opaque identity() :: #identity{}.
%% Who a user of a connection is to its node: the pid that all its requests come from and results go to,
%% and what its references begin with.

-type incoming() :: {ended, Call :: pos_integer(), outcome()}
                  | {io, io_request()} % for the group leader of who called
                  | {say, Answer :: binary()} % at once
                  | tick % something is to be said soon, or the node takes us for dead
                  | nothing.
-type outcome() :: {frame, binary()} | {error, term()}.
%% What came of a call, as bytes: for its caller, who looks into them by result/2.

-type io_request() :: {From :: pid(), ReplyAs :: term(), Request :: term()}.

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

%% @doc The frame for a message to a registered name, or a pid, of the node.
-spec message(identity(), node(), To :: term(), Message :: term()) ->
          {ok, iodata()} | {error, {bad_argument, destination, term()}}.
message(Identity, Node, {Name, Node}, Message) when is_atom(Name) -> {ok, send(Identity, Name, Message)};
message(Identity, _Node, Name, Message) when is_atom(Name) -> {ok, send(Identity, Name, Message)};
message(Identity, Node, Pid, Message) when is_pid(Pid), node(Pid) =:= Node -> {ok, send(Identity, Pid, Message)};
message(_Identity, _Node, To, _Message) -> {error, {bad_argument, destination, To}}.

%% @doc The frame that answers a request of the io protocol.
-spec io_reply(identity(), {From :: pid(), ReplyAs :: term()}, Reply :: term()) -> iodata().
io_reply(Identity, {From, ReplyAs}, Reply) -> send(Identity, From, {io_reply, ReplyAs, Reply}).

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

%% @doc What a frame is to this user of the connection, and what is to be done about it. The terms that a call
%% ended with are not looked at.
-spec incoming(identity(), Frame :: binary()) -> incoming().
incoming(#identity{pid = Pid} = Identity, Frame) ->
    case parse(Frame) of
        {ended, Call} -> {ended, Call, {frame, Frame}};
        {refused, Call, Reason} -> {ended, Call, {error, {spawn, Reason}}};
        {message, To, Payload} -> io_request(Identity, To, Payload);
        tick -> tick;
        other -> said(sockpool_nif:node_answer(Frame, numbers(Pid)))
    end.

said(undefined) -> nothing;
said(Answer) -> {say, Answer}.

%% What a node may send unasked and is none of these is `other'.
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

%% @doc What came of the call.
-spec result(pos_integer(), outcome()) -> {ok, term()} | {error, term()}.
result(_Call, {error, _} = Error) ->
    Error;
result(Call, {frame, <<?PASS_THROUGH, Control/binary>>}) ->
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

%% Of the io protocol, from a function that this user of the connection called: all else that is sent to a pid
%% is nobody's here. (The node may write the atom in the pid in another way.)
io_request(#identity{pid = Pid}, To, Payload) ->
    case numbers(To) =:= numbers(Pid) of
        true -> io_request(Payload);
        false -> nothing
    end.

numbers(Pid) -> binary:part(Pid, byte_size(Pid), -12).

io_request(Payload) ->
    try binary_to_term(Payload) of
        {io_request, From, ReplyAs, Request} when is_pid(From) -> {io, {From, ReplyAs, Request}};
        _ -> nothing
    catch
        error:badarg -> nothing
    end.
