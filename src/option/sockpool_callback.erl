%%% @private
%%% A function among the options: a fun, or `{Module, Function, ExtraArgs}', whose extra arguments come after
%%% the others. They may have a password among them, and are kept in a fun, so as not to get into logs.
-module(sockpool_callback).

-export([check/2, shown/2, call/2, name/1, is_exported/2]).
-export_type([callback/0]).

-type callback() :: fun() | {module(), Function :: atom(), sockpool_secret:secret()}.

%% @doc Of how many arguments, beside the extra ones.
-spec check(term(), arity()) -> {ok, callback()} | error.
check(Fun, Arity) when is_function(Fun, Arity) ->
    {ok, Fun};
check({Module, Function, Sealed} = Checked, _Arity)
  when is_atom(Module), is_atom(Function), is_function(Sealed, 0) ->
    {ok, Checked};
check({Module, Function, Extra}, _Arity) when is_atom(Module), is_atom(Function), length(Extra) >= 0 ->
    {ok, {Module, Function, sockpool_secret:seal(Extra)}};
check(_Other, _Arity) ->
    error.

%% @doc For an error or a log.
-spec shown(term(), arity()) -> term().
shown(Value, Arity) ->
    case check(Value, Arity) of
        {ok, Checked} -> Checked;
        error when tuple_size(Value) >= 3 -> not_a_fun;
        error -> Value
    end.

-spec call(callback(), [term()]) -> term().
call({Module, Function, Sealed}, Args) -> apply(Module, Function, Args ++ Sealed());
call(Fun, Args) -> apply(Fun, Args).

%% @doc For a log, which function it is.
-spec name(callback()) -> {module(), Function :: atom()} | none.
name({Module, Function, _Sealed}) -> {Module, Function};
name(Fun) when is_function(Fun) -> none.

%% @doc Whether it can be called here, whichever node it is from. A local fun needs its module in the very
%% version of the node that made it, and for as long as the pool lives.
-spec is_exported(term(), arity()) -> boolean().
is_exported({_Module, _Function, Sealed}, _Arity) when is_function(Sealed) ->
    false;
is_exported({Module, Function, Extra}, Arity) ->
    is_exported(Module, Function, Arity + length(Extra));
is_exported(Fun, _Arity) ->
    {module, Module} = erlang:fun_info(Fun, module),
    {name, Name} = erlang:fun_info(Fun, name),
    {arity, Arity} = erlang:fun_info(Fun, arity),
    erlang:fun_info(Fun, type) =:= {type, external} andalso is_exported(Module, Name, Arity).

is_exported(Module, Function, Arity) ->
    code:ensure_loaded(Module) =:= {module, Module} andalso erlang:function_exported(Module, Function, Arity).
