//! What the commands that prompt share: the start-up file, and staying after a program.

use clap::Args;

use crate::shell::{Chunk, Shell};

/// What such a command takes.
#[derive(Debug, Args)]
pub(super) struct PromptArguments {
    /// Stay at the prompt after the script or chunk
    #[arg(short = 'i')]
    stays: bool,
    /// Leave out the start-up file of the prompt, init.lua in ~/.config/kademlua (XDG_CONFIG_HOME)
    #[arg(long)]
    no_init: bool,
}

impl PromptArguments {
    /// Runs a program, and prompts if the user wants to stay.
    pub(super) fn run(&self, shell: &mut Shell, program: Chunk) -> anyhow::Result<()> {
        let outcome = shell.run(program);
        if !self.stays {
            return Ok(outcome?);
        }
        if let Err(error) = &outcome {
            shell.tell(error);
        }
        self.prompt(shell)
    }

    /// Prompts, after the start-up file.
    pub(super) fn prompt(&self, shell: &mut Shell) -> anyhow::Result<()> {
        if !self.no_init {
            shell.start_up();
        }
        shell.interact()
    }
}
